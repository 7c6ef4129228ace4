"""Write the controller's events into the run's folder: started, finished and failed stages, attempts, the time log."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from espalier.stages.failures import StageFailed
from espalier.stages.plan import Stage
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.tracking.attempts import ATTEMPTS, AttemptLog
from espalier.tracking.driver_file import DriverFile
from espalier.tracking.events import EventLog
from espalier.tracking.number_format import plain_lines
from espalier.tracking.time_log import TimeLog


class EventRecorder:
    """The controller's `on_event` callback."""

    def __init__(
        self,
        folder: RunFolder,
        events: EventLog,
        times: TimeLog,
        driver: DriverFile,
        *,
        works_here: bool = False,
    ) -> None:
        """Store the arguments.

        Args:
            works_here: the one worker is this process.
        """
        self._folder, self._events, self._times = folder, events, times
        self._driver, self._works_here = driver, works_here
        self._attempts = AttemptLog(folder.path / ATTEMPTS)
        self._has_failed = False

    def placed(self, hosts: Mapping[str, int]) -> None:
        """Record on which hosts the workers of the current attempt run: host -> number of workers."""
        with suppress(OSError):  # a full disk; the workers notice it themselves
            self._attempts.placed(hosts)

    def waits_for(self, text: str) -> None:
        """Record what the driver waits for; empty: for nothing."""
        self._driver.wait_for(text)

    def interrupted(self) -> None:
        """Record that the current attempt was ended with the driver, without a word of its workers."""
        with suppress(OSError):
            self._attempts.ended("stopped", "stopped at once")

    def __call__(self, kind: str, stage: Stage, detail: object) -> None:
        if isinstance(detail, StageFailed):
            self._fail(stage, detail)
        elif isinstance(detail, StageResult):
            self._attempts.ended(detail.status, detail.gate)
            self._events.add("finished" if detail.status == "done" else "gate", stage.name, detail.gate)
            self._has_failed = False
        else:
            if not (self._folder.path / "run.json").exists():  # never recreate a folder that somebody has removed
                raise FileNotFoundError(errno.ENOENT, "The run's folder is gone", str(self._folder.path))
            self._folder.note_attempt(int(str(detail)))
            self._attempts.ordered(stage.name, int(str(detail)))
            self._driver.order(stage.name, int(str(detail)))
            if self._works_here:
                self.placed({socket.gethostname(): 1})
            self._events.add("started", stage.name)
            if not self._has_failed:  # after a failure the time until work begins counts as restarting, not waiting
                self._times.record("waiting", stage.name)

    def _fail(self, stage: Stage, failure: StageFailed) -> None:
        with suppress(OSError):  # the disk may be full, which may be the failure itself; the terminal shows it anyway
            self._write_failure(stage, failure)

    def _write_failure(self, stage: Stage, failure: StageFailed) -> None:
        self._attempts.ended(failure.cause, failure.message)
        if failure.silent_seconds:
            self._times.record("hanging", stage.name, time=time.time() - failure.silent_seconds)
        self._times.record("restarting", stage.name)
        self._has_failed = True
        asked = failure.cause in ("stopped", "preempted", "resized")
        self._events.add("stopped" if asked else "failed", stage.name, failure.message)
        if failure.detail:
            self._folder.files.replace("failure.txt", plain_lines(failure.detail).encode())
