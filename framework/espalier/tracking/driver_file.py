"""`driver.json` in a run's folder: the heartbeat of the run's driver, what it is doing, and how it has ended."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Annotated, Any, Literal

from pydantic import Field

from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import SubmissionId
from espalier.storage.names import Count, StageName, Time
from espalier.storage.records import Versioned, read_record

FILE = "driver.json"
BEAT_SECONDS = 10.0
"""Between two heartbeats."""
STALE_SECONDS = 60.0
"""A driver whose last heartbeat is older is not called running."""

_MAX_BYTES = 2**16
_LONGEST = 1000
_REMEDY = "a heartbeat as the driver of a run writes it; remove the file, and the next start writes it anew"
_Text = Annotated[str, Field(max_length=_LONGEST)]


class DriverRecord(Versioned):
    """The content of the file. Times are unix seconds by the driver's clock.

    Attributes:
        submission: that the process is the driver of; None for a command of a person.
        num_submissions: how many submissions the run had when the process started, its own included.
        options: with which a person's `espalier run` was started.
        started: when the process took the run up.
        beat: when this was written.
        stage, attempt: of the last order; empty and 0 before the first.
        waits_for: what the driver waits for; empty while it works.
        is_stopping: it was asked to stop.
        exit_code: of the driver; None while it goes on.
        reason: why it has ended, in a sentence.
    """

    host: _Text
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    submission: SubmissionId | None = None
    num_submissions: Count = 0
    options: Annotated[tuple[Annotated[str, Field(max_length=300)], ...], Field(max_length=8)] = ()
    started: Time
    beat: Time
    stage: StageName | Literal[""] = ""
    attempt: Count = 0
    waits_for: _Text = ""
    is_stopping: bool = False
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = None
    reason: _Text = ""

    @staticmethod
    def of_this_process(**known: Any) -> DriverRecord:
        """The record of this process, as it takes the run up."""
        now = time.time()
        return DriverRecord(host=socket.gethostname()[:_LONGEST], pid=os.getpid(), started=now, beat=now, **known)


def read_driver(folder: RunFolder) -> DriverRecord | None:
    """The record of the run's last driver; None when there is none, as of an older espalier.

    Raises:
        RefusedInput: the file is not as a driver writes it.
    """
    return read_record(DriverRecord, folder.path / FILE, what="heartbeat", remedy=_REMEDY, max_bytes=_MAX_BYTES)


class DriverFile:
    """Context in which a thread writes the heartbeats. Any thread may use it; only the run's driver makes one.

    Start, orders and end are written at once; everything else within ten seconds. A storage that does not take a
    heartbeat is no failure of the run.

    Attributes:
        is_stopping: whether the driver was asked to stop; asked at each heartbeat.
    """

    def __init__(
        self,
        folder: RunFolder,
        record: DriverRecord,
        *,
        may_write: Callable[[], bool] = lambda: True,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        """Store the arguments.

        Args:
            record: what is known at the start.
            may_write: whether the folder is still this process's.
        """
        self._folder, self._record = folder, record
        self.is_stopping: Callable[[], bool] = lambda: False
        self._may_write = may_write
        self._beat_seconds = beat_seconds
        self._has_changed, self._is_over = threading.Event(), False
        self._one_writer = threading.Lock()
        self._beats = threading.Thread(target=self._beat, name="driver-file", daemon=True)

    def __enter__(self) -> DriverFile:
        self._write()
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._has_changed.set()
        self._beats.join()

    def order(self, stage: str, attempt: int) -> None:
        """Record that an order was given."""
        self._write(stage=stage, attempt=attempt)

    def wait_for(self, text: str) -> None:
        """Record what the driver waits for, as in `room on the cluster: run X holds 8 GPUs`; empty: for nothing."""
        if text[:_LONGEST] != self._record.waits_for:
            self._set(waits_for=text[:_LONGEST])
            self._has_changed.set()

    def end(self, exit_code: int, reason: str) -> None:
        """Record how the driver ends; the first end that is recorded counts."""
        if self._record.exit_code is None:
            self._write(exit_code=exit_code % 256, reason=reason[:_LONGEST], waits_for="")

    def _beat(self) -> None:
        while not self._is_over:
            self._has_changed.wait(self._beat_seconds)
            self._has_changed.clear()
            if not self._is_over and self._record.exit_code is None:
                self._write()

    def _set(self, **changes: Any) -> None:
        with self._one_writer:
            self._record = self._record.model_copy(update=changes)

    def _write(self, **changes: Any) -> None:
        with self._one_writer:
            now = {"beat": time.time(), "is_stopping": self.is_stopping()}
            self._record = self._record.model_copy(update=now | changes)
            with contextlib.suppress(OSError, RefusedInput):  # full, away, or something else in its place
                if self._may_write():
                    self._folder.files.replace(FILE, self._record.model_dump_json().encode())
