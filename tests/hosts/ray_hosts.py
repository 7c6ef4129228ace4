"""A Ray cluster on several hosts, with a token and a Jobs server, and a client that is none of its nodes."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from hosts.network import Host, Network, network
from hosts.numbers_tracker import install_numbers

ROOT = Path(__file__).parents[2]
_BIN = Path(sys.executable).parent
_STORE_BYTES = 80 * 2**20
_SITE = "site"
_PLACE, _FOLDER = Path("/var/tmp"), "espalier-hosts-"  # not below /tmp, of which each host has its own
_PORT, _JOBS_PORT = 6379, 8265
_START_SECONDS = 90.0


@dataclass
class RayHosts:
    """A head that computes nothing, workers' hosts with room for one worker each, and a client.

    Attributes:
        storage: the folder of runs, which all hosts share.
        head: the one that the client talks to; None while there is none.
    """

    network: Network
    storage: Path
    token: str
    client: Host
    head: Host | None = None
    workers: list[Host] = field(default_factory=list)

    @property
    def address(self) -> str:
        assert self.head is not None
        return f"{self.head.address}:{_PORT}"

    def start_head(self, name: str = "head") -> Host:
        """A new host with a head. Returns once its Jobs server answers."""
        host = self._add(name)
        self.head = host
        where = [f"--port={_PORT}", f"--dashboard-host={host.address}", f"--dashboard-port={_JOBS_PORT}"]
        host.start(*_ray_start(host, num_cpus=0), "--head", *where, log="ray.log")
        wait_for(lambda: self.ask("/api/version") is not None, seconds=_START_SECONDS)
        return host

    def add_worker(self, name: str) -> Host:
        """A new host with a worker's node. Returns at once."""
        host = self._add(name)
        self.start_node(host)
        self.workers.append(host)
        return host

    def start_node(self, host: Host) -> None:
        """`ray start` on a host that has no node (any more). Returns at once."""
        host.start(*_ray_start(host, num_cpus=1), f"--address={self.address}", log="ray.log")

    def wait_for_nodes(self) -> None:
        """Wait until all hosts are nodes of the cluster."""
        wait_for(lambda: len(self.living_nodes()) == 1 + len(self.workers), seconds=_START_SECONDS)

    def living_nodes(self) -> list[str]:
        """Addresses of the nodes that the cluster counts as alive."""
        told = self.ask("/api/v0/nodes") or {}
        listed = told.get("data", {}).get("result", {}).get("result", [])
        return [one["node_ip"] for one in listed if one["state"] == "ALIVE"]

    def kill(self, host: Host) -> None:
        """Take a host's power away for good."""
        self.network.remove(host)
        if host is self.head:
            self.head = None
        else:
            self.workers.remove(host)

    def espalier(self, *arguments: str, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """A command on the client, to its end."""
        return self.client.run(_BIN / "espalier", *arguments, seconds=seconds)

    def start_espalier(self, *arguments: str, log: str) -> subprocess.Popen[bytes]:
        """A command on the client, which goes on; what it prints is in `log` in the client's folder."""
        return self.client.start(_BIN / "espalier", *arguments, log=log)

    def ask(self, path: str, *, method: str = "GET") -> Any:
        """Ask the head's Jobs server, on the head; None when it does not answer."""
        assert self.head is not None
        headers = {"Authorization": f"Bearer {self.token}"}
        with suppress(requests.RequestException), self.head.network():
            url = f"http://{self.head.address}:{_JOBS_PORT}{path}"
            answer = requests.request(method, url, headers=headers, timeout=10)
            return answer.json() if answer.status_code == 200 else None
        return None

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Submission id -> what Ray says of the job.

        Raises:
            TimeoutError: the Jobs server does not answer.
        """
        told: list[Any] = []

        def is_told() -> bool:
            told.append(self.ask("/api/jobs/"))
            return told[-1] is not None

        wait_for(is_told, seconds=60)
        return {one["submission_id"]: one for one in told[-1] if one["submission_id"]}

    def _add(self, name: str) -> Host:
        host = self.network.add(name)
        _give_token(host, self.token)
        return host


@contextmanager
def ray_hosts(*, num_workers: int = 2, keep: Callable[[], bool] = lambda: False) -> Iterator[RayHosts]:
    """A running cluster and its client; all of it ends with the block, or with this process.

    Args:
        keep: asked at the end whether the files of the hosts stay.
    """
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=_PLACE))
    try:
        with network(folder, _environment(folder / _SITE)) as made:
            hosts = RayHosts(made, folder / "runs", secrets.token_hex(32), made.add("client"))
            hosts.storage.mkdir()
            install_numbers(folder / _SITE)
            _give_token(hosts.client, hosts.token)
            hosts.start_head()
            for number in range(num_workers):
                hosts.add_worker(f"worker-{number + 1}")
            hosts.wait_for_nodes()
            yield hosts
    finally:
        if keep():
            kept = folder.rename(folder.with_name(folder.name.replace(_FOLDER, f"{_FOLDER}kept-")))
            print(f"the hosts' files: {kept}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the files of runners that were killed; their hosts have ended with them."""
    for folder in _PLACE.glob(f"{_FOLDER}*-*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)) and folder.owner() == "root":
            shutil.rmtree(folder, ignore_errors=True)


def _give_token(host: Host, token: str) -> None:
    file = host.folder / "home" / ".ray" / "auth_token"
    file.parent.mkdir()
    file.touch(mode=0o600)
    file.write_text(token)


def _environment(site: Path) -> dict[str, str]:
    return {
        "PATH": f"{_BIN}:{os.environ['PATH']}",
        "PYTHONPATH": ":".join(map(str, (*(ROOT / one for one in ("framework", "cluster", "tests")), site))),
        "LANG": "C.UTF-8",
        "COLUMNS": "160",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_metrics_collection": "false",
        "RAY_prestart_worker_first_driver": "0",
    }


def _ray_start(host: Host, *, num_cpus: int) -> list[str | Path]:
    sizes = [f"--num-cpus={num_cpus}", "--num-gpus=0", f"--object-store-memory={_STORE_BYTES}"]
    return [_BIN / "ray", "start", "--block", "--disable-usage-stats", f"--node-ip-address={host.address}", *sizes]


def wait_for(condition: Callable[[], bool], *, seconds: float = 120.0, pause: float = 0.2) -> float:
    """Wait until a condition holds; the seconds that it took.

    Raises:
        TimeoutError: it did not hold in time.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"what was waited for did not come within {seconds:.0f} s")
        time.sleep(pause)
    return time.monotonic() - began


def processes_of(host: Host, words: str) -> list[psutil.Process]:
    """Processes on a host whose command line holds these words."""
    found = []
    for one in host.processes():
        with suppress(psutil.Error):
            if words in " ".join(one.cmdline()):
                found.append(one)
    return found
