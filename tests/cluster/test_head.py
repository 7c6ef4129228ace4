"""Whether the head of a cluster answers, without asking Ray."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest
import ray

from espalier_cluster.head import Head


def test_silence_is_counted_from_the_first_look_without_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    where = SimpleNamespace(gcs_address=f"127.0.0.1:{port}")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: where)
    head = Head()
    assert head.silent_seconds() == 0.0
    listening.close()
    first = head.silent_seconds()
    time.sleep(0.05)
    assert 0.0 < first < first + 0.05 <= head.silent_seconds()
    with socket.create_server(("127.0.0.1", port)):
        assert head.silent_seconds() == 0.0
    assert 0.0 < head.silent_seconds() < 5.0, "counted anew"
