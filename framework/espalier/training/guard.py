"""The guard against bad steps: detect NaN, infinity and loss spikes, and leave steps out after going back."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from espalier.config.training import GuardConfig, Remedy
from espalier.jobs.trained_stage import TrainedStage
from espalier.saving.states import find_resume
from espalier.stages.failures import StageFailed
from espalier.storage.names import Count, Key
from espalier.storage.records import SCHEMA, Versioned
from espalier.training.step import StepReport
from espalier.worker.context import StageContext

_WINDOW, _FEWEST = 64, 8  # losses that a spike is measured against


class _LeftOutFile(Versioned):
    key: Key
    steps: tuple[Count, ...]
    times: Count


class BadStep(Exception):
    """A bad step: its loss or gradient is NaN, infinite or a spike. Raised on all workers.

    Attributes:
        step: 1-based.
        remedy: from the guard's settings.
        samples: ids of the step's samples on all workers, for the message.
    """

    def __init__(self, step: int, remedy: Remedy, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.remedy = remedy
        self.samples: list[int] = []


class Guard:
    """Detects bad steps from global values, so that all workers decide alike without communication."""

    def __init__(self, config: GuardConfig, losses: Iterable[float] = ()) -> None:
        self._config = config
        self._losses = deque(losses, maxlen=_WINDOW)

    @property
    def losses(self) -> list[float]:
        """Recent losses, kept in checkpoints so that a resumed run detects the same spikes."""
        return list(self._losses)

    def check(self, step: int, report: StepReport) -> None:
        """Check step number `step` (1-based).

        Raises:
            BadStep: the step is bad.
        """
        figures = {"loss": report.loss, "gradient norm": report.gradient_norm}
        if bad := [f"{name} is {value}" for name, value in figures.items() if not math.isfinite(value)]:
            raise BadStep(step, self._config.nan, f"the {' and the '.join(bad)}")
        if self._config.spike_ratio and len(self._losses) >= _FEWEST:
            usual = statistics.median(self._losses)
            if report.loss > self._config.spike_ratio * usual:
                reason = f"the loss is {report.loss:.4g} where {usual:.4g} was usual"
                raise BadStep(step, self._config.spike, reason)
        self._losses.append(report.loss)


@dataclass(frozen=True)
class LeftOut:
    """The steps (1-based) of a stage that are left out, with their samples.

    Attributes:
        times: number of bad steps so far in this stage.
    """

    steps: frozenset[int] = frozenset()
    times: int = 0

    @staticmethod
    def read(context: StageContext[TrainedStage]) -> LeftOut:
        """Read what earlier attempts at the stage with the same key left out."""
        remedy = "the steps that the guard left out; bring back a copy, or remove the file to take all steps"
        kept = context.folder.read(_LeftOutFile, _file(context), what="list of steps", remedy=remedy)
        if kept is None or kept.key != context.key:
            return LeftOut()
        return LeftOut(frozenset(kept.steps), kept.times)

    def after(self, bad: BadStep, context: StageContext[TrainedStage], *, limit: int) -> LeftOut:
        """Leave out further steps because of a bad one; rank zero writes them to disk. Collective.

        Raises:
            StageFailed: the remedy is to stop, or there were `limit` bad steps before.
        """
        samples = f"{len(bad.samples)} samples: {', '.join(map(str, bad.samples[:32]))}"
        where = f"stage {context.config.name}, step {bad.step}: {bad} ({samples})"
        if bad.remedy == "stop":
            raise StageFailed("unstable", f"{where}; guard says stop: look at its samples, or set guard to skip")
        if self.times >= limit:
            raise StageFailed("unstable", f"{where}; that is more than guard.limit {limit} allows")
        resumed = find_resume(context)
        resumed_from = resumed.manifest.origin.step if resumed else 0
        first = bad.step if bad.remedy == "skip" else resumed_from + 1
        after = LeftOut(self.steps | set(range(first, bad.step + 1)), self.times + 1)
        if context.world.is_rank_zero:
            kept = {"schema_version": SCHEMA, "key": context.key, "steps": sorted(after.steps), "times": after.times}
            context.folder.write_json(_file(context), kept)
            text = f"{where}; going back to step {resumed_from}, leaving out steps {first} to {bad.step}"
            context.events.add("note", context.config.name, text)
        return after


def _file(context: StageContext[TrainedStage]) -> str:
    return f"stages/{context.config.name}/left_out.json"
