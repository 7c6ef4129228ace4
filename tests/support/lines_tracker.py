"""A tracker as another package would add it: it writes what it is told as JSON lines, one object each."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espalier.config.base import Config
from espalier.jobs.tracker import TrackerKind
from espalier.stages.result import StageResult
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.events import Event
from espalier.tracking.record import StepRecord
from espalier.tracking.tracker import Position, Report, TrackedRun


class LinesConfig(Config):
    """Where the lines go; whether lines of steps that were taken back are written anew, or stay as in a server."""

    file: str
    rewrites: bool = True
    team: str = "nobody"


class LinesTracker:
    """See `espalier.tracking.tracker.Tracker`."""

    def __init__(self, run: TrackedRun, settings: LinesConfig, report: Report) -> None:
        self._run, self._settings, self._report = run, settings, report
        self._path = Path(settings.file)

    def start(self) -> Position:
        told = self._told()
        steps = [line["global_step"] for line in told if "loss" in line]
        epochs = {line["stage"]: line["epoch"] for line in told if "epoch" in line}
        inherited = "LINES_TOKEN" in os.environ
        self._write(
            run=self._run.name, id=self._run.id, seed=self._run.job["seed"], team=self._settings.team,
            secrets=dict(self._run.secrets), inherited=inherited, process=os.getpid(),
        )  # fmt: skip
        return Position(max(steps, default=0), lambda stage: epochs.get(stage, 0))

    def restart(self) -> Position | None:
        if not self._settings.rewrites:
            return None
        self._path.unlink()
        return self.start()

    def log_step(self, record: StepRecord) -> None:
        self._write(stage=record.stage, global_step=record.global_step, loss=record.loss)

    def log_epoch(self, record: EpochRecord) -> None:
        self._write(stage=record.stage, epoch=record.epoch, metrics=dict(record.metrics))

    def log_result(self, result: StageResult) -> None:
        self._write(result=result.stage, status=result.status)

    def alert(self, event: Event) -> None:
        self._write(alert=event.kind, stage=event.stage, message=event.message)

    def finish(self, results: Sequence[StageResult]) -> None:
        self._write(finished=[result.stage for result in results])

    def advice(self) -> str:
        return f"the lines are in {self._path.name}"

    def _told(self) -> list[dict[str, Any]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [json.loads(line) for line in lines]

    def _write(self, **values: Any) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(values) + "\n")


LINES = TrackerKind(
    name="lines",
    title="the lines",
    settings=LinesConfig,
    backend="support.lines_tracker:LinesTracker",
    secrets=("LINES_TOKEN",),
)
