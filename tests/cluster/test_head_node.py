"""How long the head node has not answered, asked without Ray."""

from __future__ import annotations

import socket
import time
from types import SimpleNamespace

import pytest
import ray

from espalier_cluster.head_node import HeadNode


def test_silent_seconds_count_from_the_first_connection_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    where = SimpleNamespace(gcs_address=f"127.0.0.1:{port}")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: where)
    head_node = HeadNode()
    assert head_node.silent_seconds() == 0.0
    listening.close()
    first = head_node.silent_seconds()
    time.sleep(0.05)
    assert 0.0 < first < first + 0.05 <= head_node.silent_seconds()
    with socket.create_server(("127.0.0.1", port)):
        assert head_node.silent_seconds() == 0.0
    assert 0.0 < head_node.silent_seconds() < 5.0, "counted anew"
