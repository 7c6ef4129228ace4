"""Joining a cluster is refused before Ray is asked; a local cluster leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import ray

from espalier.config.faults import RefusedInput
from espalier.jobs.job import WorkersConfig
from espalier_cluster import joining
from espalier_cluster.held_folders import sweep
from espalier_cluster.local_cluster import cluster, require_access


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


HOLD = """
import os, time
from espalier.jobs.job import WorkersConfig
from espalier_cluster.local_cluster import FOLDER, cluster
from espalier_cluster.log_filter import filter_logs
with filter_logs(), cluster(WorkersConfig()):
    print(os.environ[FOLDER], flush=True)
    time.sleep(600)
"""


@pytest.fixture
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def refusal(address: str) -> str:
    with pytest.raises(RefusedInput) as refused, cluster(WorkersConfig(), address=address):
        pass
    return str(refused.value)


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", ":6379"])
def test_what_is_no_address_is_refused(address: str) -> None:
    assert "host:port" in refusal(address)


def test_an_address_where_nothing_answers_is_refused_within_seconds() -> None:
    started = time.monotonic()
    assert "nothing answered" in refusal("127.0.0.1:9")
    assert time.monotonic() - started < 6


def test_a_cluster_elsewhere_is_refused_without_a_token(no_token: None, listening: int) -> None:
    assert "--insecure" in refusal(f"{socket.gethostname()}:{listening}")


def test_auto_resolves_as_ray_resolves_it(no_token: None, listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"{socket.gethostname()}:{listening}")
    assert "--insecure" in refusal("auto")


def test_a_token_that_is_switched_off_does_not_count(
    no_token: None, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 64)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "--insecure" in refusal(f"{socket.gethostname()}:{listening}")


def test_a_refusal_leaves_the_environment_as_it_was() -> None:
    before = dict(os.environ)
    refusal("127.0.0.1:9")
    assert dict(os.environ) == before


def test_a_cluster_that_asks_for_no_token_is_refused_though_one_is_at_hand(
    no_token: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 64)
    with open_head() as address:
        assert "lets anybody in" in refusal(address) and "--insecure" in refusal(address)
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert "lets anybody in" in refusal("auto")


@pytest.mark.slow
def test_a_server_that_is_no_head_node_is_refused(
    no_token: None, listening: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 64)
    monkeypatch.setattr(joining, "_REACH_SECONDS", 1.0)
    assert "does not answer as one" in refusal(f"127.0.0.1:{listening}")


def test_auto_is_no_cluster_that_another_user_has_started(
    no_token: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ray_current_cluster"
    file.write_text("127.0.0.1:9")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.utils.get_ray_address_file", lambda folder: str(file))
    assert "nothing answered" in refusal("auto")
    monkeypatch.setattr(os, "getuid", lambda: file.stat().st_uid + 1)
    if file.stat().st_uid:
        assert "another user's" in refusal("auto")


def test_a_local_cluster_without_authentication_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(RefusedInput, match="--insecure"):
        require_access(None, insecure=False)
    assert require_access(None, insecure=True) == {}


@contextmanager
def open_head() -> Iterator[str]:
    """The head of a cluster, as far as a question goes, that asks nobody for a token."""
    folder = Path(ray.__file__).parent / "core" / "src" / "ray" / "gcs"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [folder / "gcs_server", f"--gcs_server_port={port}", "--node-ip-address=127.0.0.1"]
    head = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        head.kill()
        head.wait()


def test_a_local_cluster_is_quiet_private_and_dies_with_its_driver(tmp_path: Path) -> None:
    """On loopback alone, with a token of its own in a folder for its owner; the next start removes what a kill left."""
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_AUTH_TOKEN": "x" * 64}
    driver = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert driver.stdout is not None
    try:
        folder = Path(driver.stdout.readline().strip())
        assert folder.stat().st_mode & 0o777 == 0o700 and len((folder / "token").read_text()) == 64
        assert not list(tmp_path.iterdir()), "nothing is written to the home"
        started = psutil.Process(driver.pid).children(recursive=True)
        for process in (psutil.Process(driver.pid), *started):
            for one in process.net_connections():
                assert one.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1"), f"{process.name()} listens on {one.laddr}"
            listens = any(one.status == psutil.CONN_LISTEN for one in process.net_connections())
            needed = process.pid == driver.pid or re.search(r"gcs_server|raylet|RuntimeEnvAgent|IDLE", process.name())
            assert needed or not listens, f"{process.cmdline()} listens, and no run needs it"
            hang_ups = int(re.search(r"^SigBlk:\s*(\w+)", status(process.pid), re.M)[1], 16) & 1 << (signal.SIGHUP - 1)
            assert hang_ups or process.pid == driver.pid, f"a hang-up of the terminal ends {process.name()}"
            assert "x" * 64 not in "".join(process.environ().values()) or process.pid == driver.pid
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        driver.stdout.close()
    # Ray's two agents go a minute later: they try to report to a head that is gone (2.60). They hold nothing.
    holding = [process for process in started if "Agent" not in process.name()]
    assert len(holding) > 1 and psutil.wait_procs(holding, timeout=20)[1] == []
    for agent in started:
        with suppress(psutil.NoSuchProcess):
            agent.kill()
    psutil.wait_procs(started, timeout=20)
    sweep()
    assert not folder.exists()
