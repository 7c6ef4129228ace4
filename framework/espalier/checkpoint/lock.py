"""One run at a time in a run folder.

The lock is a file made exclusively. Its holder renews it every few seconds, so that a holder on another host
which died is told from one that works; a holder that died on this host is seen at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated

import psutil
from pydantic import Field

from espalier.config.faults import Fault, RefusedInput
from espalier.storage.names import Time
from espalier.storage.records import SCHEMA, Versioned, parse_record

_RENEW_SECONDS = 5.0
_STALE_SECONDS = 60.0
_MAX_BYTES = 2**16
_Text = Annotated[str, Field(max_length=1024)]


class _HolderFile(Versioned):
    token: _Text
    host: _Text
    place: _Text
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    process_started: Time
    since: Time
    job: _Text


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

    @property
    def is_here(self) -> bool:
        """Whether its process, if it lives, can be seen from this one."""
        return self.place == _place()

    def is_gone(self, *, silent_seconds: float) -> bool:
        """Whether the holder is surely dead, seen from this process after a silence of so long."""
        if not self.is_here:
            return silent_seconds > _STALE_SECONDS
        try:
            process = psutil.Process(self.pid)
            # The start is reckoned from the boot time, which moves with the clock: silence must confirm it.
            reused = abs(process.create_time() - self.process_started) > 1.0 and silent_seconds > 3 * _RENEW_SECONDS
            return reused or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def found_holder(path: Path) -> tuple[Holder, float] | None:
    """Who holds the lock at `path`, alive or not, and when it was last renewed in unix seconds; None for no lock.

    Takes and writes nothing.

    Raises:
        RefusedInput: something else stands in the lock's place.
    """
    try:
        return _read(path), path.stat().st_mtime
    except FileNotFoundError:
        return None


def living_holder(path: Path) -> Holder | None:
    """Who holds the lock at `path`; None when nobody does, or nobody living. See `found_holder`.

    The silence of a holder on another host is measured by this host's clock.
    """
    found = found_holder(path)
    if found is None:
        return None
    holder, renewed = found
    return None if holder.is_gone(silent_seconds=time.time() - renewed) else holder


class RunLock:
    """Context that holds the lock at `path`; the folder must exist.

    Attributes:
        on_lost: called once, from a thread, with a sentence, when the run is not this process's any more.

    Raises (on entering):
        RefusedInput: another live run holds it, and says which; or something else stands in its place.
    """

    def __init__(self, path: Path, *, job: str) -> None:
        self._path = path
        self._me = Holder.this_process(job)
        self.on_lost: Callable[[str], None] = lambda text: None
        self._folder: tuple[int, int] | None = None
        self._stop = threading.Event()
        self._renewal = threading.Thread(target=self._renew, name="run-lock", daemon=True)

    def __enter__(self) -> RunLock:
        while not self._create():
            self._take_from_dead()
        self._folder = _identity(self._path.parent)
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
        except (FileNotFoundError, RefusedInput):
            return False

    @property
    def lost(self) -> str | None:
        """Why the run is not this process's any more, in a sentence; None while it is."""
        if self._folder is not None and _identity(self._path.parent) != self._folder:
            return f"the run's folder {self._path.parent} is gone: it was removed, or its storage can no longer be seen"
        if self.is_held() or not os.path.lexists(self._path):
            return None
        return "another process has taken this run over, as nothing was heard of this one for a minute"

    def _create(self) -> bool:
        try:
            with self._path.open("x") as file:
                json.dump({"schema_version": SCHEMA, **asdict(self._me)}, file)
        except FileExistsError:
            return False
        return True

    def _take_from_dead(self) -> None:
        """Remove the lock of a dead holder, or refuse."""
        try:
            _require_file(self._path)
            with self._path.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # of several that find a dead holder's file, one removes it
                if not os.path.samestat(os.fstat(file.fileno()), self._path.stat()):
                    return
                holder = _read(self._path)
                if self._silent_seconds() < -_RENEW_SECONDS:  # of a clock that is ahead: counted from now on
                    os.utime(self._path)
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
                if why := self.lost:
                    self.on_lost(why)
                    return
                if self.is_held():
                    os.utime(self._path)
                else:
                    self._create()  # somebody removed it by hand, and nobody has taken it
            except OSError:
                continue  # storage that stutters; the next renewal is in time for the one missed

    def _refused(self, holder: Holder) -> RefusedInput:
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(holder.since))
        user = f"run `{holder.job}` on host {holder.host}, process {holder.pid}, since {since}"
        remedy = f"wait for it or stop it; if its host is gone, try again in {_STALE_SECONDS:.0f} seconds"
        allowed = f"a run folder that no other run uses; this one is used by {user}: {remedy}"
        return RefusedInput([Fault(str(self._path.parent), "in use", allowed)])


def _read(path: Path) -> Holder:
    """The holder of a lock; an unknown one where its maker died while it wrote the file.

    Raises:
        RefusedInput: something else stands in its place, or a newer espalier wrote it.
    """
    _require_file(path)
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        data = file.read(_MAX_BYTES)
    try:
        found = parse_record(_HolderFile, data, path=path, what="lock", remedy=_REMEDY)
    except RefusedInput as refused:
        if "schema_version" in refused.faults[0].path:
            raise
        return Holder("", "unknown", "", 0, 0.0, 0.0, "unknown")
    return Holder(**found.model_dump(exclude={"schema_version"}))


_REMEDY = "a lock that a run has made; remove it, if no run uses the folder"


def _require_file(path: Path) -> None:
    """Refuse what is no regular file: opening a pipe would block, and a link may lead to another file."""
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise RefusedInput([Fault(str(path), None, _REMEDY, given=f"is {kind}")])


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _place() -> str:
    """This boot of this host, and this process namespace: two containers may share a host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
