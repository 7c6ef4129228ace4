"""What a worker does in a stage `focal`."""

from __future__ import annotations

from functools import partial

from espalier.objectives.terms import Term
from espalier.stages.result import StageResult
from espalier.training.loop import train
from espalier.training.supervised import Supervised
from espalier.worker.context import StageContext
from espalier_focal.kind import FocalStage
from espalier_focal.loss import Focal


def run(context: StageContext[FocalStage]) -> StageResult:
    """Train to the end of the budget. Collective."""
    term = Term(Focal(function="focal_cross_entropy", gamma=context.config.gamma))
    return train(context, partial(Supervised.open, terms=(term,)))
