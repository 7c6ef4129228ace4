"""The seam of a growth: what the model said before, what it says after, on the same real text in float32."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espalier.checkpoint.read import StateReader
from espalier.data.batch import Batch
from espalier.data.batches import make_batch
from espalier.engine.frozen import FrozenModel
from espalier.evaluation.perplexity import token_nll
from espalier.kinds.grow.kind import GrowStage
from espalier.models.architecture import is_language_model
from espalier.models.flops import model_flops
from espalier.stages.orders import StageFailed
from espalier.surgery.growth import Growth
from espalier.training.masking import Masking
from espalier.worker.context import StageContext


def compare(
    context: StageContext[GrowStage], growth: Growth, student: StateReader, folder: str
) -> dict[str, Any] | None:
    """Losses on both sides of the seam. Collective; None for a model without a head over words.

    The grown model is also held to what it must equal: the student where the operator keeps the function, otherwise
    the student with its layers run in the order they were copied in, whatever width it grew. Fresh layers equal
    nothing.

    Returns:
        `loss_before`, `loss_after`, `jump` in nats a token, and `difference`, the largest of any token to what
        must be equal; None where nothing is.

    Raises:
        StageFailed: that difference is above the tolerance, or a loss is no number.
    """
    stage = context.config
    if not is_language_model(growth.parent):
        return None
    batch = _text(context, growth)
    found = context.world.from_rank_zero(_measure(context, growth, student, folder, batch) if batch else None)
    for name, loss in ((stage.student, found["loss_before"]), (stage.name, found["loss_after"])):
        if not math.isfinite(loss):
            raise StageFailed("unstable", f"stage {stage.name}: the model of stage {name} has a loss of {loss}")
    if found["difference"] is not None and not found["difference"] <= stage.seam.tolerance:
        raise StageFailed(
            "unstable",
            f"stage {stage.name}: the loss of a token differs by {found['difference']:.2g} nats across the growth, "
            f"where seam.tolerance allows {stage.seam.tolerance:g}; raise it, or take another operator",
        )
    return found


def seam_flops(context: StageContext[GrowStage], growth: Growth) -> float:
    """Of the forward passes that the comparison took."""
    length = context.data.sequence_tokens
    tokens = context.config.seam.sequences * length
    passes = [(growth.parent, None), (growth.config, None)]
    if growth.equal_order is not None and not growth.keeps_function:
        passes.append((growth.parent, len(growth.equal_order)))
    return sum(model_flops(model, tokens=tokens, sequence_tokens=length, layers=layers) for model, layers in passes)


def _measure(
    context: StageContext[GrowStage], growth: Growth, student: StateReader, folder: str, batch: Batch
) -> dict[str, float | None]:
    before = _losses(context, student, batch)
    after = _losses(context, StateReader.open(context.storage, folder, verify=False), batch)
    same, order = before, growth.equal_order
    if not growth.keeps_function:
        same = None if order is None else _losses(context, student, batch, order=order)
    return {
        "loss_before": float(before.mean()),
        "loss_after": float(after.mean()),
        "jump": float(after.mean() - before.mean()),
        "difference": None if same is None else float((after - same).abs().max()),
    }


def _losses(
    context: StageContext[GrowStage], reader: StateReader, batch: Batch, order: Sequence[int] | None = None
) -> Tensor:
    """[tokens that count] of one model, on the host."""
    model = FrozenModel(reader, zero_level="none", dtype=torch.float32, world=context.world)
    with closing(model):
        model.network.run_layers(order)
        return token_nll(model, batch.to(context.world.device)).cpu()[batch.token_mask.flatten()]


def _text(context: StageContext[GrowStage], growth: Growth) -> Batch | None:
    """The first sequences of the training text; None on all workers but rank zero."""
    sequences = context.sequences("train")
    if not context.world.is_rank_zero:
        return None
    batch = make_batch(sequences, np.arange(min(len(sequences), context.config.seam.sequences)))
    masking = Masking.of(growth.parent, context.tokenizer(), share=0.15, seed=context.job.seed)
    return masking.apply(batch, 0) if masking else batch
