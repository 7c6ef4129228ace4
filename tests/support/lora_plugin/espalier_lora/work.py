"""What a worker does in a stage `lora`."""

from __future__ import annotations

from functools import partial

from espalier.stages.result import StageResult
from espalier.training.label_terms import label_term
from espalier.training.loop import train
from espalier.training.supervised import Supervised
from espalier.worker.context import StageContext
from espalier_lora.kind import LoraStage


def run(context: StageContext[LoraStage]) -> StageResult:
    """Train to the end of the budget. Collective."""
    return train(context, partial(Supervised.open, terms=(label_term(context.data),)))
