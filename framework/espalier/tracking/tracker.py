"""The protocol of a tracker, a back-end such as W&B that shows a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from espalier.stages.result import StageResult
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.events import Event
from espalier.tracking.record import StepRecord

Report = Callable[[str], None]
"""Writes a message for the user into the run's events."""


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker shows.

    Attributes:
        folder: of the run; a tracker may keep files in a folder of its own name there.
        id: stays the same when a run is resumed, and changes when it starts again from nothing in the same folder.
        name: of the job.
        job: the whole job with every default, as JSON values.
        secrets: values of the environment variables that the tracker's declaration names, where they are set.
        stop: asks the run to save and stop, as `espalier stop` does; any thread may call it, more than once too.
    """

    folder: Path
    id: str
    name: str
    job: Mapping[str, Any]
    secrets: Mapping[str, str] = field(default_factory=dict)
    stop: Callable[[], None] = lambda: None


def _no_epoch(stage: str) -> int:
    return 0


@dataclass(frozen=True)
class Position:
    """The last step and epochs that a tracker has of a run.

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
    Each step and epoch is logged once, in the order in which they happened; after a resume the caller
    (`espalier.tracking.mirror`) decides which ones, from the position that `start` returns.
    """

    def start(self) -> Position | None:
        """Start or resume the run; returns what the tracker has already. None: switched off, nothing more is called."""
        ...

    def restart(self) -> Position | None:
        """Called when a resume has removed logged steps: start again from nothing, or return None to keep them."""
        ...

    def log_step(self, record: StepRecord) -> None: ...

    def log_epoch(self, record: EpochRecord) -> None: ...

    def log_result(self, result: StageResult) -> None:
        """Log the result of a finished stage; may be called more than once for a stage."""
        ...

    def alert(self, event: Event) -> None:
        """Tell people of an event that has just happened: a stage has `failed` (a hang too), or a `gate` was missed."""
        ...

    def finish(self, results: Sequence[StageResult]) -> None:
        """Finish: this process has nothing more to log.

        Args:
            results: of the stages that were done while it followed the run.
        """
        ...

    def advice(self) -> str:
        """One line that tells the user what to do after the run; empty when there is nothing."""
        ...
