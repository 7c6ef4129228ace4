"""Start and enter namespaces of Linux: the first process of a host, its network, its processes."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_CLONE_NEWNET = 0x40000000
_SHM_BYTES = 512 * 2**20
_START_SECONDS = 10.0
_FIRST = Path(__file__).parent / "first_process.py"
_UNSHARE = ["unshare", "--net", "--pid", "--mount", "--uts", "--fork", "--kill-child=KILL", "--mount-proc"]


def why_not() -> str:
    """Why hosts cannot be made here; empty when they can."""
    if os.geteuid() != 0:
        return "it makes network namespaces, which needs root"
    for program, package in {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}.items():
        if shutil.which(program) is None:
            return f"it needs `{program}` ({package})"
    probe = [*_UNSHARE, "ip", "link", "add", "bridge", "type", "bridge"]
    asked = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"this machine allows no namespaces with a bridge: {asked.stderr.strip()}" if asked.returncode else ""


def start_first_process(name: str, place: Path | None = None) -> psutil.Process:
    """Start the first process of a new host in namespaces of its own; it ends with this process.

    Args:
        name: its hostname.
        place: folder with its `tmp` and `hosts`; None: it sees those of the machine.
    """
    steps = [f"hostname {name}", f"mount -t tmpfs -o size={_SHM_BYTES} shm /dev/shm"]
    if place is not None:
        steps += [f"mount --bind {place}/hosts /etc/hosts", f"mount --bind {place}/tmp /tmp"]
    script = " && ".join([*steps, f"exec {sys.executable} -S -E {_FIRST}"])
    whole = ["setpriv", "--pdeathsig", "KILL", *_UNSHARE, "sh", "-c", script]
    outer = psutil.Popen(whole, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        for child in outer.children():
            with suppress(psutil.Error):
                if child.name() != "sh" and str(_FIRST) in child.cmdline():
                    return child
        time.sleep(0.02)
    raise TimeoutError(f"the host {name} did not start")


def inside(first: psutil.Process) -> list[str]:
    """The beginning of a command that is to run on the host of a first process."""
    return ["nsenter", f"--target={first.pid}", "--net", "--pid", "--mount", "--uts", "--"]


def processes(first: psutil.Process) -> list[psutil.Process]:
    """All that run on the host of a first process, beside that."""
    found: list[psutil.Process] = []
    try:
        place = os.readlink(f"/proc/{first.pid}/ns/pid")
    except OSError:
        return found
    for one in psutil.process_iter():
        with suppress(OSError):
            if one.pid != first.pid and os.readlink(f"/proc/{one.pid}/ns/pid") == place:
                found.append(one)
    return found


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, and wait until they have ended."""
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(processes, timeout=10)


@contextmanager
def network_of(first: psutil.Process) -> Iterator[None]:
    """Sockets that this thread opens inside the block are in the network of a first process's host."""
    with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{first.pid}/ns/net") as theirs:
        _enter(theirs.fileno())
        try:
            yield
        finally:
            _enter(ours.fileno())


def _enter(namespace: int) -> None:
    """`setns`, which Python 3.11 lacks."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def run(*command: str) -> None:
    """Run a program of the system.

    Raises:
        OSError: it failed; with what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
