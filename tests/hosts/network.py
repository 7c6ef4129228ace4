"""Hosts on one machine: namespaces for network, processes, mounts and names, joined by a bridge.

Each host has an address, a hostname, a process 1, a `/tmp`, a `/dev/shm` and a home of its own; the folder that all are
made in is the storage they share. The bridge is in a namespace too, so the machine's own network is not touched. A host
is the tree of one process that ends with the process that made it: nothing is left behind, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_SWITCH_ADDRESS = "10.77.0.254"
_NETWORK = "10.77.0.{}/24"
_CLONE_NEWNET = 0x40000000
_SHM_BYTES = 512 * 2**20
_HERE = Path(__file__).parent


def why_not() -> str:
    """Why hosts cannot be made here; empty when they can."""
    if os.geteuid() != 0:
        return "it makes network namespaces, which needs root"
    for program, package in {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}.items():
        if shutil.which(program) is None:
            return f"it needs `{program}` ({package})"
    probe = [*_NEW_HOST, "ip", "link", "add", "bridge", "type", "bridge"]
    asked = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"this machine allows no namespaces with a bridge: {asked.stderr.strip()}" if asked.returncode else ""


_NEW_HOST = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child=KILL", "--mount-proc"]


@dataclass(frozen=True)
class Host:
    """One host.

    Attributes:
        folder: its home, its `/tmp` and the output of what is started on it.
        first: its process 1, as the machine numbers it.
        environment: of every process that is started on it.
    """

    name: str
    address: str
    folder: Path
    first: psutil.Process
    environment: dict[str, str]

    def start(self, *command: str | Path, log: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a program; what it prints is appended to the file `log` in the host's folder.

        Args:
            more: variables that are added to the environment.
        """
        with (self.folder / log).open("ab") as file:
            whole = [*self._inside(), *command]
            return subprocess.Popen(
                whole, env=self.environment | more, stdout=file, stderr=file, start_new_session=True
            )

    def run(self, *command: str | Path, seconds: float = 120.0, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its exit code and what it printed, errors among it."""
        whole = [*self._inside(), *command]
        return subprocess.run(
            whole, env=self.environment | more, stdout=-1, stderr=-2, text=True, timeout=seconds, check=False
        )

    def kill_started(self, started: subprocess.Popen[bytes]) -> None:
        """SIGKILL for what `start` has started, and all that it has started itself."""
        with suppress(psutil.NoSuchProcess):
            for one in psutil.Process(started.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        started.wait(10)

    def output(self, log: str) -> str:
        """What was printed into `log` so far."""
        return (self.folder / log).read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """All that run on it, beside the first."""
        with suppress(psutil.NoSuchProcess):
            return self.first.children(recursive=True) + _entered(self.first)
        return []

    def end_processes(self) -> None:
        """SIGKILL for all that runs on it; the host stays."""
        there = self.processes()
        for one in there:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(there, timeout=10)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Sockets that this thread opens inside the block are the host's."""
        with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{self.first.pid}/ns/net") as theirs:
            _enter(theirs.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())

    def kill(self) -> None:
        """End all its processes with SIGKILL."""
        with suppress(psutil.NoSuchProcess):
            self.first.kill()
        psutil.wait_procs([self.first], timeout=10)

    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self.first.pid}", "--net", "--pid", "--mount", "--uts", "--"]


def _entered(first: psutil.Process) -> list[psutil.Process]:
    """Processes in the namespace of a host that were started from outside, whose parents are not on it."""
    place, found = os.readlink(f"/proc/{first.pid}/ns/pid"), []
    for one in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if one.pid != first.pid and os.readlink(f"/proc/{one.pid}/ns/pid") == place:
                found.append(one)
    known = {one.pid for one in first.children(recursive=True)}
    return [one for one in found if one.pid not in known]


@dataclass
class Network:
    """A bridge and the hosts on it.

    Attributes:
        folder: which all hosts see under this path.
        environment: of all processes on all hosts.
    """

    folder: Path
    environment: Mapping[str, str]
    hosts: dict[str, Host] = field(default_factory=dict)
    _switch: psutil.Process | None = None
    _num_made: int = 0

    def add(self, name: str) -> Host:
        """Make a host; its address is one that none had before it."""
        self._num_made += 1
        address = f"10.77.0.{self._num_made}"
        place = self.folder / "hosts" / f"{self._num_made}-{name}"
        for one in ("home", "tmp"):
            (place / one).mkdir(parents=True)
        (place / "tmp").chmod(0o1777)
        # As on Debian: a host's own name is an address that no other host reaches.
        (place / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        environment = dict(self.environment) | {"HOME": str(place / "home"), "HOSTNAME": name}
        host = Host(name, address, place, _first_process(name, place, self.folder), environment)
        self._plug_in(host)
        self.hosts[name] = host
        return host

    def cut(self, host: Host) -> None:
        """Pull the host's cable."""
        self._in_switch("link", "set", f"to-{host.address.rpartition('.')[2]}", "down")

    def mend(self, host: Host) -> None:
        self._in_switch("link", "set", f"to-{host.address.rpartition('.')[2]}", "up")

    def remove(self, host: Host) -> None:
        """Take a host's power away: nobody hears of it any more, and all its processes end."""
        self.cut(host)
        host.kill()
        self.hosts.pop(host.name, None)

    def _plug_in(self, host: Host) -> None:
        port = f"to-{host.address.rpartition('.')[2]}"
        switch = self._the_switch()
        _run("ip", "link", "add", port, "netns", str(switch.pid), "type", "veth", "peer", "name", "eth0", "netns",
             str(host.first.pid))  # fmt: skip
        self._in_switch("link", "set", port, "master", "bridge", "up")
        for words in (
            "link set lo up",
            f"addr add {_NETWORK.format(self._num_made)} dev eth0",
            "link set eth0 up",
            f"route add default via {_SWITCH_ADDRESS}",
        ):
            _run(*host._inside(), "ip", *words.split())

    def _the_switch(self) -> psutil.Process:
        if self._switch is None:
            self._switch = _first_process("switch", None, self.folder)
            self._in_switch("link", "add", "bridge", "type", "bridge")
            self._in_switch("addr", "add", f"{_SWITCH_ADDRESS}/24", "dev", "bridge")
            self._in_switch("link", "set", "bridge", "up")
        return self._switch

    def _in_switch(self, *words: str) -> None:
        assert self._switch is not None
        _run("nsenter", f"--target={self._switch.pid}", "--net", "--", "ip", *words)

    def close(self) -> None:
        for host in list(self.hosts.values()):
            self.remove(host)
        if self._switch is not None:
            self._switch.kill()


@contextmanager
def network(folder: Path, environment: Mapping[str, str]) -> Iterator[Network]:
    """An empty network; its hosts end with the block, or with this process."""
    made = Network(folder.resolve(), environment)
    try:
        yield made
    finally:
        made.close()


def _first_process(name: str, place: Path | None, shared: Path) -> psutil.Process:
    """Start the first process of a new host in namespaces of its own; it ends with this process.

    Args:
        place: with its `/tmp` and `/etc/hosts`; None for the switch, which needs none.
        shared: stays visible where it is, even if that is below `/tmp`.
    """
    steps = [f"hostname {name}", f"mount -t tmpfs -o size={_SHM_BYTES} shm /dev/shm"]
    if place is not None:
        steps += [f"mount --bind {place}/hosts /etc/hosts", f"mount --bind {place}/tmp /tmp"]
    script = " && ".join([*steps, f"exec {sys.executable} -S -E {_HERE / 'first_process.py'}"])
    ends_with_us = ["setpriv", "--pdeathsig", "KILL"]
    whole = [*ends_with_us, *_NEW_HOST, "sh", "-c", script]
    outer = psutil.Popen(whole, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in outer.children():
            with suppress(psutil.Error):
                if any("first_process.py" in word for word in child.cmdline()) and child.name() != "sh":
                    return child
        time.sleep(0.02)
    raise TimeoutError(f"the host {name} did not start")


def _enter(namespace: int) -> None:
    """Let this thread enter a network namespace (`setns`, which Python 3.11 lacks)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
