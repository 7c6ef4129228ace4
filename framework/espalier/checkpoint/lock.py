"""One run at a time in a run folder.

The lock is a file made exclusively. Its holder renews it every few seconds, so that a holder on another host
which died is told from one that works; a holder that died on this host is seen at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import psutil

from espalier.config.faults import Fault, RefusedInput

_RENEW_SECONDS = 5.0
_STALE_SECONDS = 60.0


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. Times are Unix seconds; `place` tells where process numbers mean the same."""

    token: str
    host: str
    place: str
    pid: int
    process_started: float
    since: float
    job: str

    @staticmethod
    def this_process(job: str) -> Holder:
        started = psutil.Process().create_time()
        return Holder(uuid.uuid4().hex, socket.gethostname(), _place(), os.getpid(), started, time.time(), job)

    def is_gone(self, *, silent_seconds: float) -> bool:
        """Whether the holder is surely dead, seen from this process after a silence of so long."""
        if self.place != _place():
            return silent_seconds > _STALE_SECONDS
        try:
            process = psutil.Process(self.pid)
            # The start is reckoned from the boot time, which moves with the clock: silence must confirm it.
            reused = abs(process.create_time() - self.process_started) > 1.0 and silent_seconds > 3 * _RENEW_SECONDS
            return reused or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


class RunLock:
    """Context that holds the lock at `path`; the folder must exist.

    Attributes:
        on_lost: called once, from a thread, when another process has taken the lock: this one seemed dead.

    Raises (on entering):
        RefusedInput: another live run holds it; says which.
    """

    def __init__(self, path: Path, *, job: str) -> None:
        self._path = path
        self._me = Holder.this_process(job)
        self.on_lost: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._renewal = threading.Thread(target=self._renew, name="run-lock", daemon=True)

    def __enter__(self) -> RunLock:
        while not self._create():
            self._take_from_dead()
        self._renewal.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._renewal.join()
        if self.is_held():
            self._path.unlink()

    def is_held(self) -> bool:
        """Whether the lock is still ours: a process that slept for a minute may have lost it to another."""
        try:
            return _read(self._path).token == self._me.token
        except FileNotFoundError:
            return False

    def _create(self) -> bool:
        try:
            with self._path.open("x") as file:
                json.dump(asdict(self._me), file)
        except FileExistsError:
            return False
        return True

    def _take_from_dead(self) -> None:
        """Remove the lock of a dead holder, or refuse."""
        try:
            with self._path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # of several that find a dead holder's file, one removes it
                if not os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                    return
                holder = _read(self._path)
                if not holder.is_gone(silent_seconds=self._silent_seconds()):
                    raise self._refused(holder)
                self._path.unlink()
        except FileNotFoundError:
            return  # let go meanwhile

    def _silent_seconds(self) -> float:
        """Seconds since the last renewal by the clock of the file system, which all hosts share."""
        probe = self._path.with_name(f"{self._path.name}.{self._me.token}")
        probe.touch()
        try:
            return probe.stat().st_mtime - self._path.stat().st_mtime
        finally:
            probe.unlink()

    def _renew(self) -> None:
        while not self._stop.wait(_RENEW_SECONDS):
            try:
                if not self.is_held():
                    self.on_lost()
                    return
                os.utime(self._path)
            except OSError:
                continue  # storage that stutters; the next renewal is in time for the one missed

    def _refused(self, holder: Holder) -> RefusedInput:
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(holder.since))
        user = f"run `{holder.job}` on host {holder.host}, process {holder.pid}, since {since}"
        remedy = f"wait for it or stop it; if its host is gone, try again in {_STALE_SECONDS:.0f} seconds"
        allowed = f"a run folder that no other run uses; this one is used by {user}: {remedy}"
        return RefusedInput([Fault(str(self._path.parent), "in use", allowed)])


def _read(path: Path) -> Holder:
    """A lock that cannot be read (its maker died over it) has no known holder."""
    try:
        return Holder(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        return Holder("", "unknown", "", 0, 0.0, 0.0, "unknown")


def _place() -> str:
    """This boot of this host, and this process namespace: two containers may share a host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
