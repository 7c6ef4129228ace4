"""Steps that cannot be right: seen alike by all workers, and left out when the stage is taken up again."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from espalier.config.training import GuardConfig, Remedy
from espalier.jobs.trained_stage import TrainedStage
from espalier.saving.states import find_resume
from espalier.stages.orders import StageFailed
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
    """A step whose loss or gradient cannot be right. Raised on every worker at once.

    Attributes:
        step: 1-based.
        remedy: what its policy says.
        samples: ids of the step's samples, of all workers; for whoever looks at them.
    """

    def __init__(self, step: int, remedy: Remedy, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.remedy = remedy
        self.samples: list[int] = []


class Guard:
    """Looks at global figures only, so that all workers come to the same verdict without a word."""

    def __init__(self, config: GuardConfig, losses: Iterable[float] = ()) -> None:
        self._config = config
        self._losses = deque(losses, maxlen=_WINDOW)

    @property
    def losses(self) -> list[float]:
        """What a checkpoint keeps, so that a resumed run finds the same spikes."""
        return list(self._losses)

    def check(self, step: int, report: StepReport) -> None:
        """Accept step number `step` (1-based).

        Raises:
            BadStep: it is not to be kept.
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
    """The steps (1-based) of a stage that are not taken: their samples are passed over, nothing is learnt from them.

    Attributes:
        times: how often a bad step was seen in this stage.
    """

    steps: frozenset[int] = frozenset()
    times: int = 0

    @staticmethod
    def read(context: StageContext[TrainedStage]) -> LeftOut:
        """What earlier attempts at this very stage decided."""
        remedy = "the steps that the guard left out; bring back a copy, or remove the file to take all steps"
        kept = context.folder.read(_LeftOutFile, _file(context), what="list of steps", remedy=remedy)
        if kept is None or kept.key != context.key:
            return LeftOut()
        return LeftOut(frozenset(kept.steps), kept.times)

    def after(self, bad: BadStep, context: StageContext[TrainedStage], *, limit: int) -> LeftOut:
        """What to leave out from now on; rank zero writes it down first. Collective.

        Raises:
            StageFailed: the policy is to stop, or this has happened `limit` times.
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
