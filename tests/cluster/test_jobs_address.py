"""Finding a cluster's Jobs server: what is no such server, or lets anybody in, is refused before a token is sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from espalier.config.faults import RefusedInput
from espalier_cluster import jobs_server
from espalier_cluster.jobs_address import connect
from espalier_cluster.jobs_server import ServerAway

TOKEN = "t" * 64
VERSION = {"ray_version": "2.60.0", "session_name": "session_7"}


@contextmanager
def http_server(answer: dict[str, object] | None, *, needs_token: bool = True) -> Iterator[tuple[str, list[str]]]:
    """A server at the URL; the headers that it was sent. `answer` None: 404 to everything."""
    sent: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "")
            sent.append(given)
            known = given == f"Bearer {TOKEN}" or not needs_token
            self.send_response(404 if answer is None else 200 if known else 403 if given else 401)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


def refusal(address: str | None) -> str:
    with pytest.raises(RefusedInput) as refused:
        connect(address, insecure=False)
    (fault,) = refused.value.faults
    return str(fault)


def test_a_server_that_asks_for_the_token_is_taken() -> None:
    with http_server(VERSION) as (url, sent):
        server = connect(url, insecure=False)
    assert (server.session, server.ray_version, server.address) == ("session_7", "2.60.0", url)
    assert sent == ["", f"Bearer {TOKEN}"]


def test_a_server_that_lets_anybody_in_is_refused_and_gets_no_token() -> None:
    with http_server(VERSION, needs_token=False) as (url, sent):
        assert "lets anybody in" in refusal(url) and "--insecure" in refusal(url)
        assert connect(url, insecure=True).session == "session_7"
    assert set(sent) == {""}


def test_a_wrong_token_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "w" * 64)
    with http_server(VERSION) as (url, _):
        assert "turned away" in refusal(url)


def test_no_token_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    with http_server(VERSION) as (url, sent):
        assert "RAY_AUTH_TOKEN_PATH" in refusal(url) and not sent


def test_a_token_file_is_read_as_ray_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (tmp_path / "secret").write_text(f"{TOKEN}\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "secret"))
    with http_server(VERSION) as (url, _):
        assert connect(url, insecure=False).session == "session_7"


def test_what_is_no_jobs_server_is_told_of() -> None:
    assert "nothing answers" in refusal("http://127.0.0.1:9")
    with http_server(None) as (url, sent):
        assert "status 404" in refusal(url)
    assert sent == [""], "the token was sent to a stranger"
    assert "host:port" in refusal("head")


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_variables_that_name_another_cluster_are_a_conflict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with http_server(VERSION) as (url, sent):
        monkeypatch.setenv(name, "http://10.0.0.9:8265")
        assert f"{name} names" in refusal(url) and not sent
        monkeypatch.setenv(name, url)
        assert connect(url, insecure=False).address == connect(None, insecure=False).address == url


def test_a_server_that_goes_away_later_is_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_server, "_ANSWER_SECONDS", 1.0)
    with http_server(VERSION) as (url, _):
        server = connect(url, insecure=False)
    with pytest.raises(ServerAway, match="does not answer"):
        server.look("espalier-slim-1-00000000")
