"""A W&B server that takes a key, does not, or does not answer; the key is asked for by no other name than its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from espalier.tracking import wandb_access
from espalier.tracking.wandb_access import look
from espalier.tracking.wandb_settings import WandbConfig

KEY = "0123456789" * 4


@contextmanager
def server(status: int, answer: object) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


def seen(monkeypatch: pytest.MonkeyPatch, url: str, *, key: str | None = KEY, asked: str = "online") -> None:
    monkeypatch.setattr(wandb_access, "mode_and_url", lambda: (asked, url))
    monkeypatch.setattr(wandb_access, "find_key", lambda at: (key is not None, key))


@pytest.mark.parametrize(
    ("status", "answer", "is_good", "is_dead"),
    [
        (200, {"data": {"viewer": {"id": "7"}}}, True, False),
        (200, {"data": {"viewer": None}}, False, True),
        (401, {}, False, True),
        (403, {}, False, True),
        (500, {}, False, False),
        (302, {}, False, False),
        (200, [1], False, False),
    ],
)
def test_only_a_key_that_the_server_knows_is_good_and_only_mode_online_demands_one(
    status: int, answer: object, is_good: bool, is_dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server(status, answer) as url:
        seen(monkeypatch, url)
        by_name, auto = look(WandbConfig(mode="online")), look(WandbConfig())
    assert by_name.is_good == auto.is_good == is_good
    assert bool(by_name.refused) == is_dead and not auto.refused
    assert KEY not in f"{by_name} {auto}"


def test_no_key_is_refused_where_online_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, "http://127.0.0.1:9", key=None)
    assert "no key is there" in look(WandbConfig(mode="online")).refused
    assert not look(WandbConfig()).refused and not look(WandbConfig()).is_good


def test_a_server_that_cannot_be_reached_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, "http://127.0.0.1:9")
    found = look(WandbConfig(mode="online"))
    assert "cannot be reached" in found.found and not found.is_good and not found.refused


def test_nobody_is_asked_where_w_and_b_is_off_or_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_access, "find_key", lambda at: pytest.fail("asked"))
    monkeypatch.setattr(wandb_access, "mode_and_url", lambda: ("offline", "http://127.0.0.1:9"))
    assert all(look(WandbConfig(mode=mode)).is_good for mode in ("off", "offline", "auto"))
    monkeypatch.setattr(wandb_access, "mode_and_url", lambda: ("disabled", "http://127.0.0.1:9"))
    assert look(WandbConfig(mode="online")).is_good
