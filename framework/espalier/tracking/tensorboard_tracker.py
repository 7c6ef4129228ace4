"""The tracker that writes TensorBoard's event files. They are made anew from the record by each start."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from espalier.stages.result import StageResult
from espalier.storage.local import LocalStorage
from espalier.tracking import event_file, payload
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.events import Event
from espalier.tracking.record import StepRecord
from espalier.tracking.tensorboard_settings import TensorboardConfig
from espalier.tracking.tracker import Position, Report, TrackedRun

_FOLDER, _PREFIX, _SUFFIX = "tensorboard", "events.out.tfevents.", ".espalier"


class TensorboardTracker:
    """One event file in the run's folder. See `Tracker`."""

    def __init__(self, run: TrackedRun, settings: TensorboardConfig, report: Report) -> None:
        self._marks = payload.PlanMarks(run.folder)
        self._files = LocalStorage(run.folder / _FOLDER)
        self._name = ""
        self._step = 0

    def start(self) -> Position:
        """Begin a file without any step; that of an earlier start is removed."""
        self._files.make_folder(".")
        for name in self._files.list("."):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                self._files.remove(name)
        now = time.time()
        self._name, self._step = f"{_PREFIX}{now:017.6f}{_SUFFIX}", 0
        self._files.append(self._name, event_file.header(time=now))
        return Position()

    def restart(self) -> Position:
        return self.start()

    def log_step(self, record: StepRecord) -> None:
        self._write(payload.step_values(record) | self._marks.of(record.stage), step=record.global_step, at=record.time)

    def log_epoch(self, record: EpochRecord) -> None:
        self._write(payload.epoch_values(record), step=record.global_step, at=record.time)

    def log_result(self, result: StageResult) -> None:
        self._write(payload.result_values(result), step=self._step, at=time.time())

    def alert(self, event: Event) -> None:
        """Nothing: TensorBoard tells nobody."""

    def finish(self, results: Sequence[StageResult]) -> None:
        self._files.sync_file(self._name)

    def advice(self) -> str:
        return ""

    def _write(self, values: Mapping[str, Any], *, step: int, at: float) -> None:
        self._step = max(self._step, step)
        self._files.append(self._name, event_file.scalars(payload.numbers(values), step=step, time=at))
