"""Stage `distill`: train the student while a frozen teacher runs on the same batches."""

from __future__ import annotations

from functools import partial

from espalier.kinds.distill.kind import DistillStage
from espalier.objectives.terms import terms_of
from espalier.stages.result import StageResult
from espalier.training.loop import train
from espalier.training.supervised import Supervised
from espalier.worker.context import StageContext


def run(context: StageContext[DistillStage]) -> StageResult:
    """Train the student. Collective."""
    stage = context.config
    return train(context, partial(Supervised.open, terms=terms_of(stage.losses)), teacher=stage.teacher)
