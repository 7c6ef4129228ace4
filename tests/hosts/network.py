"""Hosts on one machine: namespaces for network, processes, mounts and names, joined by a bridge.

Each host has an address, a hostname, a process 1, a `/tmp`, a `/dev/shm` and a home of its own; the folder that all are
made in is the storage they share. The bridge is in a namespace too, so the machine's own network is not touched. A host
is the tree of one process that ends with the process that made it: nothing is left behind, however that ends.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hosts import namespaces

_NETWORK = "10.77.0"
_SWITCH_ADDRESS = f"{_NETWORK}.254"


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

    def start(self, *command: str | Path, log: str) -> subprocess.Popen[bytes]:
        """Start a program; what it prints is appended to the file `log` in the host's folder."""
        whole = [*namespaces.inside(self.first), *command]
        with (self.folder / log).open("ab") as file:
            return subprocess.Popen(whole, env=self.environment, stdout=file, stderr=file, start_new_session=True)

    def run(self, *command: str | Path, seconds: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its exit code and what it printed, errors among it."""
        whole = [*namespaces.inside(self.first), *command]
        return subprocess.run(
            whole, env=self.environment, stdout=-1, stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False
        )

    def output(self, log: str) -> str:
        """What was printed into `log` so far."""
        return (self.folder / log).read_text(errors="replace")

    def kill_started(self, started: subprocess.Popen[bytes]) -> None:
        """SIGKILL for what `start` has started, and all that it has started itself."""
        with suppress(psutil.NoSuchProcess):
            namespaces.kill(psutil.Process(started.pid).children(recursive=True))
        started.wait(10)

    def processes(self) -> list[psutil.Process]:
        """All that run on it, beside the first."""
        return namespaces.processes(self.first)

    def end_processes(self) -> None:
        """SIGKILL for all that runs on it; the host stays."""
        namespaces.kill(self.processes())

    def kill(self) -> None:
        """SIGKILL for all that runs on it, with the host."""
        namespaces.kill([self.first])

    def network(self) -> AbstractContextManager[None]:
        """Sockets that this thread opens inside the block are the host's."""
        return namespaces.network_of(self.first)


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
        place = self.folder / "hosts" / f"{self._num_made}-{name}"
        for one in ("home", "tmp"):
            (place / one).mkdir(parents=True)
        (place / "tmp").chmod(0o1777)
        # As on Debian: a host's own name is an address that no other host reaches.
        (place / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        environment = dict(self.environment) | {"HOME": str(place / "home"), "HOSTNAME": name}
        first = namespaces.start_first_process(name, place)
        host = Host(name, f"{_NETWORK}.{self._num_made}", place, first, environment)
        self._plug_in(host)
        self.hosts[name] = host
        return host

    def cut(self, host: Host) -> None:
        """Pull the host's cable."""
        self._in_switch("link", "set", _port(host), "down")

    def mend(self, host: Host) -> None:
        self._in_switch("link", "set", _port(host), "up")

    def remove(self, host: Host) -> None:
        """Take a host's power away: nobody hears of it any more, and all its processes end."""
        self.cut(host)
        host.kill()
        self.hosts.pop(host.name, None)

    def close(self) -> None:
        for host in list(self.hosts.values()):
            self.remove(host)
        if self._switch is not None:
            namespaces.kill([self._switch])

    def _plug_in(self, host: Host) -> None:
        switch = self._the_switch()
        ends = ["netns", str(switch.pid), "type", "veth", "peer", "name", "eth0", "netns", str(host.first.pid)]
        namespaces.run("ip", "link", "add", _port(host), *ends)
        self._in_switch("link", "set", _port(host), "master", "bridge", "up")
        for words in (
            "link set lo up",
            f"addr add {host.address}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {_SWITCH_ADDRESS}",
        ):
            namespaces.run(*namespaces.inside(host.first), "ip", *words.split())

    def _the_switch(self) -> psutil.Process:
        if self._switch is None:
            self._switch = namespaces.start_first_process("switch")
            self._in_switch("link", "add", "bridge", "type", "bridge")
            self._in_switch("addr", "add", f"{_SWITCH_ADDRESS}/24", "dev", "bridge")
            self._in_switch("link", "set", "bridge", "up")
        return self._switch

    def _in_switch(self, *words: str) -> None:
        assert self._switch is not None
        namespaces.run(*namespaces.inside(self._switch), "ip", *words)


@contextmanager
def network(folder: Path, environment: Mapping[str, str]) -> Iterator[Network]:
    """An empty network; its hosts end with the block, or with this process."""
    made = Network(folder.resolve(), environment)
    try:
        yield made
    finally:
        made.close()


def _port(host: Host) -> str:
    """The host's end at the bridge."""
    return f"to-{host.address.rpartition('.')[2]}"
