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
from typing import Any

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
    ports = free_ports(4)
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
        options.append(f"--ray-client-server-port={ports[3]}")
        more = ["--dashboard-host=127.0.0.1", f"--num-cpus={num_cpus}", f"--temp-dir={home}", "--disable-usage-stats"]
        log = stack.enter_context((folder / "head.log").open("wb"))
        head = subprocess.Popen([*command, *options, *more], env=environment, stdout=log, stderr=log)
        stack.callback(_end, head)
        url = f"http://127.0.0.1:{ports[1]}"
        _await(url, seconds=seconds)
        yield Head(f"127.0.0.1:{ports[0]}", url, token_file, environment, Path(home))


@contextmanager
def ray_node(
    head: Head, log: Path, *, num_cpus: int = 1, hidden: Path | None = None, labels: str = ""
) -> Iterator[None]:
    """Start another node of the head's cluster on this machine for the time of the block.

    Args:
        hidden: a folder that this node sees an empty one of its own at; needs root.
        labels: as `ray start --labels` takes them.
    """
    before = len(_nodes(head))
    command = [str(Path(sys.executable).parent / "ray"), "start", f"--address={head.address}", "--block"]
    command += ["--node-ip-address=127.0.0.1", f"--dashboard-agent-listen-port={free_ports(1)[0]}"]
    command += [f"--num-cpus={num_cpus}", "--disable-usage-stats", *([f"--labels={labels}"] if labels else [])]
    if hidden is not None:
        covered = 'mount -t tmpfs none "$0" && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", covered, str(hidden), *command]
    with log.open("wb") as file:
        node = subprocess.Popen(command, env=head.environment, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while len(_nodes(head)) == before:
            if node.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"the node has not joined: {log.read_text()}")
            time.sleep(0.3)
        yield
    finally:
        if node.poll() is None:
            _end(node)


def can_hide_folders() -> bool:
    """Whether this process may give another one its own view of a folder."""
    try:
        asked = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
        return subprocess.run(asked, capture_output=True, timeout=20, check=False).returncode == 0
    except OSError:
        return False


def listed(head: Head, what: str) -> list[dict[str, Any]]:
    """What Ray's state API lists: `nodes`, `actors`, `placement_groups`."""
    token = {"Authorization": f"Bearer {head.token_file.read_text()}"}
    told = requests.get(f"{head.url}/api/v0/{what}", headers=token, timeout=20).json()
    return told["data"]["result"]["result"]


def _nodes(head: Head) -> list[str]:
    """Ids of the nodes that are alive."""
    return [one["node_id"] for one in listed(head, "nodes") if one["state"] == "ALIVE"]


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
