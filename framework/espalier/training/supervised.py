"""The training method of `train`, `distill` and `correct`: epochs over samples in a fixed random order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from espalier.data.batch import Batch
from espalier.data.batches import window
from espalier.engine.contract import Engine
from espalier.engine.hidden_states import objective_of
from espalier.engine.objective import Objective
from espalier.jobs.trained_stage import TrainedStage
from espalier.objectives.terms import Term
from espalier.teachers.source import SignalSource
from espalier.training.epochs import EpochEnds
from espalier.training.prepared import Prepared
from espalier.training.revision import SampleRevision
from espalier.worker.context import StageContext

OpenRevision = Callable[[StageContext[Any], Prepared], SampleRevision]


@dataclass(frozen=True)
class Supervised:
    """See `TrainingMethod`. The samples of a step are a function of seed and step.

    Attributes:
        ends: actions at the ends of epochs.
    """

    context: StageContext[TrainedStage]
    prepared: Prepared
    objective: Objective
    ends: EpochEnds
    revision: SampleRevision | None

    @staticmethod
    def open(
        context: StageContext[Any],
        prepared: Prepared,
        *,
        terms: tuple[Term, ...],
        open_revision: OpenRevision | None = None,
    ) -> Supervised:
        """Open the method at the step to start from. Collective.

        Args:
            terms: of the loss.
            open_revision: for stages that revise their samples.
        """
        revision = open_revision(context, prepared) if open_revision else None
        objective = objective_of(terms, watch=revision.watch if revision else None)
        return Supervised(context, prepared, objective, EpochEnds.open(context, prepared, revision), revision)

    @property
    def source(self) -> SignalSource | None:
        return self.revision.source if self.revision else None

    @property
    def last_step(self) -> int:
        return self.ends.last_step

    @property
    def best_folder(self) -> str | None:
        return self.ends.best_folder

    @property
    def asked(self) -> int:
        return self.ends.asked

    def batches(self, step: int) -> Sequence[Batch]:
        world, place = self.context.world, self.prepared.place(step)
        microbatches = window(
            self.revision.sequences if self.revision else self.prepared.sequences,
            place,
            seed=self.prepared.order_seed,
            batch=self.context.config.batch,
            rank=world.rank,
            num_ranks=world.size,
        )
        if self.prepared.masking is None:
            return microbatches
        return [self.prepared.masking.apply(batch, place) for batch in microbatches]

    def layer_orders(self, step: int) -> Sequence[Sequence[int]]:
        return self.prepared.layer_orders(step, self.context.world)

    def after_step(self, step: int, engine: Engine, source: SignalSource | None) -> None:
        self.ends.after_step(step, engine, source)

    def state(self) -> Mapping[str, Any]:
        return self.ends.state()

    def tables(self) -> Mapping[str, Tensor]:
        return self.revision.tables() if self.revision else {}

    def metrics(self) -> Mapping[str, Any]:
        return self.ends.metrics()
