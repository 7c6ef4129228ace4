"""What a worker does in a stage `dpo`."""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.nn.functional import logsigmoid

from espalier.data.batch import Batch
from espalier.engine.objective import LogProbabilityObjective
from espalier.stages.result import StageResult
from espalier.training.epochs import EpochEnds
from espalier.training.loop import train
from espalier.training.prepared import Prepared
from espalier.training.supervised import Supervised
from espalier.worker.context import StageContext
from espalier_preference.kind import DpoStage


def run(context: StageContext[DpoStage]) -> StageResult:
    """Train to the end of the budget. Collective."""
    return train(context, _method, teacher=context.config.teacher)


def _method(context: StageContext[DpoStage], prepared: Prepared) -> Supervised:
    objective = LogProbabilityObjective(
        names=("preference",),
        weights=(1.0,),
        loss=partial(preference_sum, beta=context.config.beta),
        count=lambda batch: (len(batch.sample_ids),),
    )
    return Supervised(context, prepared, objective, EpochEnds.open(context, prepared, None), None)


def preference_sum(student: Tensor, teacher: Tensor | None, batch: Batch, *, beta: float) -> Tensor:
    """[1] DPO's loss (equation 7), summed over the pairs of a microbatch.

    Args:
        student, teacher: [B, T] log-probabilities of the answers' tokens, 0 elsewhere.
    """
    assert teacher is not None
    margin = ((student - teacher) * batch.columns["side"]).sum(1)
    return -(logsigmoid(beta * margin) * batch.sample_weights).sum()[None]
