"""A tracker that prints numbered lines into the driver's log, some for each step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from espalier.config.base import Config
from espalier.jobs.tracker import TrackerKind
from espalier.stages.result import StageResult
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.record import StepRecord
from espalier.tracking.tracker import Position, Report, TrackedRun
from support.installed import install

LINES_OF_A_STEP = 10


class NumbersConfig(Config):
    """No settings."""


class NumbersTracker:
    """See `espalier.tracking.tracker.Tracker`."""

    def __init__(self, run: TrackedRun, settings: NumbersConfig, report: Report) -> None:
        self._number = 0

    def start(self) -> Position:
        return Position(0, lambda stage: 0)

    def restart(self) -> Position | None:
        return None

    def log_step(self, record: StepRecord) -> None:
        for _ in range(LINES_OF_A_STEP):
            self._number += 1
            print(f"numbered line {self._number}", flush=True)

    def log_epoch(self, record: EpochRecord) -> None: ...

    def log_result(self, result: StageResult) -> None: ...

    def finish(self, results: Sequence[StageResult]) -> None: ...

    def advice(self) -> str:
        return ""


NUMBERS = TrackerKind(
    name="numbers", title="the numbers", settings=NumbersConfig, backend="hosts.numbers_tracker:NumbersTracker"
)


def install_numbers(site: Path) -> None:
    """Make the tracker known to whoever has `site` on the import path."""
    site.mkdir(parents=True, exist_ok=True)
    install(site, "numbers", {"numbers": "hosts.numbers_tracker:NUMBERS"}, group="espalier.trackers")
