"""The script that plays another user of the machine: that it finds what is open, and that a run is closed."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults import stranger, stranger_probe
from faults.stranger_probe import as_another_user, try_files, try_processes, try_rpc, try_unix_socket

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


def findings(tried: list[stranger_probe.Tried]) -> list[str]:
    return [one.what.split()[0] for one in tried if one.finding]


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that everybody can come to, other than pytest's own."""
    with tempfile.TemporaryDirectory(prefix="stranger-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_is_open_is_found_and_what_is_closed_is_not(reachable: Path) -> None:
    opened, closed = reachable / "opened", reachable / "closed"
    for folder, mode in ((opened, 0o777), (closed, 0o700)):
        folder.mkdir()
        (folder / "file").write_text("text")
        (folder / "file").chmod(mode & 0o666)
        folder.chmod(mode)
    assert findings(as_another_user(lambda: try_files([opened, opened / "file"]))) == ["read", "write", "read", "write"]
    assert findings(as_another_user(lambda: try_files([closed, closed / "file"]))) == []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(opened / "socket"))
        (opened / "socket").chmod(0o777)
        server.listen()
        assert findings(as_another_user(lambda: [try_unix_socket(str(opened / "socket"))])) == ["connect"]


def test_a_secret_in_a_command_line_is_found() -> None:
    word = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0]
    found = as_another_user(lambda: try_processes([os.getppid()], [word]))
    assert [one.what.rsplit("/")[-1] for one in found if one.finding] == ["cmdline"]


def test_a_server_that_asks_for_no_token_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in stranger_probe._METHODS:
                client, _ = server.accept()
                with client:
                    client.recv(4096)
                    client.sendall(b"grpc-status\x010")

        threading.Thread(target=answer, daemon=True).start()
        assert "token" in try_rpc("server", server.getsockname()[1], may_be_silent=True).finding


def test_every_line_of_the_table_in_security_md_is_read() -> None:
    rows = stranger.rows()
    assert {row.guard for row in rows} == {"token", "nothing", "header"} and len(rows) >= 5
    for name in ("gcs_server", "raylet", "ray::OrderQueue", "python3.11", "ray::RuntimeEnvAgent"):
        assert any(row.process.fullmatch(name) for row in rows), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_another_user_gets_nothing_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert stranger.main() == 0, capsys.readouterr().out
