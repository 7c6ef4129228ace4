"""What a tracker is asked: the protocol between a run's record and whatever shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from espalier.stages.result import StageResult
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.record import StepRecord

Report = Callable[[str], None]
"""Writes a message into the run's events, for people."""


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker shows.

    Attributes:
        folder: of the run; a tracker may keep files in a folder of its own name there.
        id: the same however often the run goes on, another when it begins anew in the same folder.
        name: of the job.
        job: the whole job with every default, as JSON values.
        secrets: values of the environment variables that the tracker's declaration names, where they are set.
    """

    folder: Path
    id: str
    name: str
    job: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict)


def _no_epoch(stage: str) -> int:
    return 0


@dataclass(frozen=True)
class Position:
    """How much of a run a tracker has.

    Attributes:
        step: the last step, counted over the whole run; 0 for none.
        epoch: stage -> its last epoch; 0 for none.
    """

    step: int = 0
    epoch: Callable[[str], int] = _no_epoch


class Tracker(Protocol):
    """One back-end that shows one run.

    Its methods are called by one thread that nothing waits for, in this order: `start`, then the others, `finish` last.
    They may block and may raise: after the first exception the tracker is not called again, and the run goes on.
    Each step and epoch is logged once, in the order in which they happened; which ones those are after a stop is
    decided by the caller (`espalier.tracking.mirror`), from the position that `start` returns.
    """

    def start(self) -> Position | None:
        """Begin to show the run, or go on; what is there already. None: switched off, nothing more is called."""
        ...

    def restart(self) -> Position | None:
        """Steps that were logged have been taken back: begin again without any; None where what was logged stays."""
        ...

    def log_step(self, record: StepRecord) -> None: ...

    def log_epoch(self, record: EpochRecord) -> None: ...

    def log_result(self, result: StageResult) -> None:
        """A stage is done; it may be told more than once."""
        ...

    def finish(self, results: Sequence[StageResult]) -> None:
        """This process has no more to log.

        Args:
            results: of the stages that were done while it followed the run.
        """
        ...

    def advice(self) -> str:
        """What a person may do now that the run has ended, in one line; empty for nothing."""
        ...
