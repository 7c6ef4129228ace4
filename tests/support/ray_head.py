"""The head of a real Ray cluster on this machine, with a token and a Jobs server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import requests


@dataclass(frozen=True)
class Head:
    """Addresses of a head, the file of its token, and Ray's folder.

    Attributes:
        environment: what its nodes and clients are started with.
    """

    address: str
    url: str
    token_file: Path
    environment: dict[str, str]
    home: Path


@contextmanager
def ray_head(
    folder: Path, *, num_cpus: int = 2, seconds: float = 60.0, variables: Mapping[str, str] | None = None
) -> Iterator[Head]:
    """Start a head for the time of the block; all that it has started ends with it.

    Args:
        variables: added to the environment.
    """
    token_file = folder / "token"
    token_file.write_text("7" * 64)
    token_file.chmod(0o600)
    ports = free_ports(3)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(sys.path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        **(variables or {}),
    }
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="rh-", dir="/tmp", ignore_cleanup_errors=True))
        command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1"]
        options = [f"--port={ports[0]}", f"--dashboard-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}"]
        more = ["--dashboard-host=127.0.0.1", f"--num-cpus={num_cpus}", f"--temp-dir={home}", "--disable-usage-stats"]
        log = stack.enter_context((folder / "head.log").open("wb"))
        head = subprocess.Popen([*command, *options, *more], env=environment, stdout=log, stderr=log)
        stack.callback(_end, head)
        url = f"http://127.0.0.1:{ports[1]}"
        _await(url, seconds=seconds)
        yield Head(f"127.0.0.1:{ports[0]}", url, token_file, environment, Path(home))


def free_ports(number: int) -> list[int]:
    """Ports that nobody has just now."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [server.getsockname()[1] for server in servers]


def _await(url: str, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/api/version", timeout=2).status_code == 401:
                return
        time.sleep(0.3)
    raise TimeoutError("the head does not answer")


def _end(head: subprocess.Popen[bytes]) -> None:
    tree = psutil.Process(head.pid).children(recursive=True)
    head.terminate()
    with suppress(subprocess.TimeoutExpired):
        head.wait(20)
    for one in tree:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    head.kill()
    head.wait()
    psutil.wait_procs(tree, timeout=20)
