"""Stage `train`: cross-entropy of the text's own words, or of the labels."""

from __future__ import annotations

from functools import partial

from espalier.kinds.train.kind import TrainStage
from espalier.stages.result import StageResult
from espalier.training.label_terms import label_term
from espalier.training.loop import train
from espalier.training.supervised import Supervised
from espalier.worker.context import StageContext


def run(context: StageContext[TrainStage]) -> StageResult:
    """Learn from the data. Collective."""
    return train(context, partial(Supervised.open, terms=(label_term(context.data),)))
