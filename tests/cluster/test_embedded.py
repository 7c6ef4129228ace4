"""Joining is refused before Ray is asked; starting leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from espalier.config.faults import RefusedInput
from espalier.config.job import WorkersConfig
from espalier_cluster.embedded import cluster

HOLD = """
import time
from espalier.config.job import WorkersConfig
from espalier_cluster.embedded import cluster
from espalier_cluster.silence import silenced
with silenced(), cluster(WorkersConfig()):
    print("up", flush=True)
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


def test_auto_is_what_ray_takes_it_for(no_token: None, listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_local_cluster_is_quiet_keeps_its_token_private_and_dies_with_its_driver(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path)}
    driver = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert driver.stdout is not None
    try:
        assert driver.stdout.readline() == "up\n"
        assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
        started = psutil.Process(driver.pid).children(recursive=True)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        driver.stdout.close()
    # Ray's two agents go a minute later: they try to report to a head that is gone (2.60). They hold nothing.
    holding = [process for process in started if "Agent" not in process.name()]
    assert len(holding) > 1 and psutil.wait_procs(holding, timeout=20)[1] == []
