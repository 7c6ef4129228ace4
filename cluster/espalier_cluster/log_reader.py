"""Read a run's logs from its folder, each line once, also across moments in which the storage is away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submission, Submissions
from espalier.storage.regular_file import open_regular
from espalier_cluster.driver_log import part_path, parts
from espalier_cluster.jobs_server import JobsServer

MISSING = b"--- older lines were removed to keep the log small"

_READ_BYTES = 2**20
_LOOK_SECONDS = 0.5
_LOST_SECONDS = 75.0  # longer than it takes until a lock whose holder is silent may be taken over
_START_SECONDS = 900.0  # within which Ray starts a job, or fails it


class LogFile:
    """One file that only grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def new_lines(self) -> Iterator[bytes]:
        """The whole lines that came since the last call; raises `OSError` when the file cannot be read."""
        with open_regular(self._path) as file:
            file.seek(self._offset)
            while some := file.read(_READ_BYTES):
                self._offset += len(some)
                *lines, self._rest = (self._rest + some).split(b"\n")
                yield from lines

    def last_line(self) -> bytes:
        """What stands after the last line's end; taken out."""
        rest, self._rest = self._rest, b""
        return rest


class DriverLines:
    """The lines of the driver's log, part after part."""

    def __init__(self, folder: RunFolder, *, first: int = 0) -> None:
        """Store the arguments.

        Args:
            first: number of the first part that is wanted.
        """
        self._folder, self._number = folder, first
        self._part: LogFile | None = None

    def new_lines(self) -> Iterator[bytes]:
        """As `LogFile.new_lines`; parts that were removed before they were read are mentioned in a line."""
        while True:
            # listed before it is read: a part that has a successor is never written again
            later = [number for number in parts(self._folder.files) if self._is_next(number)]
            if self._part is not None:
                was_removed = False
                try:
                    yield from self._part.new_lines()
                except FileNotFoundError:
                    was_removed = bool(later) and self._number not in parts(self._folder.files)
                    if not was_removed:
                        raise
                if later and (rest := self._part.last_line()):
                    yield rest
                if later and (was_removed or later[0] > self._number + 1):
                    yield MISSING
            if not later:
                return
            self._number = later[0]
            self._part = LogFile(self._folder.path / part_path(self._number))

    def _is_next(self, number: int) -> bool:
        return number >= self._number if self._part is None else number > self._number


@dataclass(frozen=True)
class Waiting:
    """How a follower waits; tests replace it."""

    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic


def follow(
    lines: Callable[[], Iterator[bytes]], is_over: Callable[[], bool], waiting: Waiting | None = None
) -> Iterator[bytes]:
    """Yield lines until the run is over and all were read. A storage that is away is waited for.

    Args:
        lines: new ones at each call; an `OSError` in between loses none.
        is_over: asked before the lines are read, so none that came before the end is missed.
    """
    waiting = waiting or Waiting()
    while True:
        was_over = False
        with suppress(OSError):
            was_over = is_over()
            yield from lines()
            if was_over:
                return
        waiting.sleep(_LOOK_SECONDS)


class RunEnd:
    """Tells from a run's folder, and from its cluster where that can be asked, whether its driver has ended."""

    def __init__(
        self,
        folder: RunFolder,
        submission: Submission | None,
        *,
        server: JobsServer | None = None,
        waiting: Waiting | None = None,
    ) -> None:
        self._server = server
        self._folder, self._submission = folder, submission
        self._clock = (waiting or Waiting()).clock
        self._silent_since = self._clock()
        self._renewed: tuple[float | None, float | None] = (None, None)

    def is_over(self) -> bool:
        """Whether it has said so, or has been silent for longer than a living driver can be.

        Silence is the time, by this process's clock, for which neither the run's lock was renewed nor, as long as the
        driver reads its data and has no lock, the mark that it has begun.
        """
        submissions, silent_seconds = Submissions(self._folder), self._silent_seconds()
        if self._submission is None:
            return self._renewed[0] is None or silent_seconds > _LOST_SECONDS
        if submissions.ended(self._submission) is not None:
            return True
        if self._server is not None and (state := self._server.look(self._submission.id)) is not None:
            return state.has_ended
        has_begun = submissions.renewed(self._submission) is not None
        return silent_seconds > (_LOST_SECONDS if has_begun else _START_SECONDS)

    def _silent_seconds(self) -> float:
        begun = None if self._submission is None else Submissions(self._folder).renewed(self._submission)
        renewed = (_changed(self._folder.path / "lock"), begun)
        if renewed != self._renewed:
            self._renewed, self._silent_since = renewed, self._clock()
        return self._clock() - self._silent_since


def _changed(path: Path) -> float | None:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return None
