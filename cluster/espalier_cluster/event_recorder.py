"""Write the controller's events into the run's folder: started, finished and failed stages, and the time log."""

from __future__ import annotations

import errno
import time
from contextlib import suppress

from espalier.stages.failures import StageFailed
from espalier.stages.plan import Stage
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.tracking.events import EventLog
from espalier.tracking.number_format import plain_lines
from espalier.tracking.time_log import TimeLog


class EventRecorder:
    """The controller's `on_event` callback."""

    def __init__(self, folder: RunFolder, events: EventLog, times: TimeLog) -> None:
        self._folder, self._events, self._times = folder, events, times
        self._has_failed = False

    def __call__(self, kind: str, stage: Stage, detail: object) -> None:
        if isinstance(detail, StageFailed):
            self._fail(stage, detail)
        elif isinstance(detail, StageResult):
            self._events.add("finished" if detail.status == "done" else "gate", stage.name, detail.gate)
            self._has_failed = False
        else:
            if not (self._folder.path / "run.json").exists():  # never recreate a folder that somebody has removed
                raise FileNotFoundError(errno.ENOENT, "The run's folder is gone", str(self._folder.path))
            self._folder.note_attempt(int(str(detail)))
            self._events.add("started", stage.name)
            if not self._has_failed:  # after a failure the time until work begins counts as restarting, not waiting
                self._times.record("waiting", stage.name)

    def _fail(self, stage: Stage, failure: StageFailed) -> None:
        with suppress(OSError):  # the disk may be full, which may be the failure itself; the terminal shows it anyway
            self._write_failure(stage, failure)

    def _write_failure(self, stage: Stage, failure: StageFailed) -> None:
        if failure.silent_seconds:
            self._times.record("hanging", stage.name, time=time.time() - failure.silent_seconds)
        self._times.record("restarting", stage.name)
        self._has_failed = True
        asked = failure.cause in ("stopped", "preempted", "resized")
        self._events.add("stopped" if asked else "failed", stage.name, failure.message)
        if failure.detail:
            self._folder.files.replace("failure.txt", plain_lines(failure.detail).encode())
