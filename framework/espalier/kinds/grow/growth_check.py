"""The growth check: compare the losses of the model before and after growth on the same text, in float32."""

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
from espalier.models.shape import ConfigDict
from espalier.stages.failures import StageFailed
from espalier.surgery.growth import Growth
from espalier.training.masking import Masking
from espalier.worker.context import StageContext


def compare(
    context: StageContext[GrowStage], growth: Growth, student: StateReader, folder: str
) -> dict[str, Any] | None:
    """Mean losses before and after growth. Collective; None for a model that is no language model.

    The grown model's loss of each token is also compared with that of a model that computes the same function: the
    student, where the operator keeps the function; otherwise the student with its layers repeated in the order in which
    they were copied. With freshly initialised layers there is no such model.

    Returns:
        `loss_before`, `loss_after` and `jump`, their difference, in nats a token; `difference`, the largest absolute
        difference of a token's loss to that of the equal model, None where there is none.

    Raises:
        StageFailed: `difference` is above the tolerance, or a loss is not finite.
    """
    stage = context.config
    if not is_language_model(growth.parent):
        return None
    batch = _text(context, growth)
    found = context.world.from_rank_zero(_measure(context, growth, student, folder, batch) if batch else None)
    for name, loss in ((stage.student, found["loss_before"]), (stage.name, found["loss_after"])):
        if not math.isfinite(loss):
            raise StageFailed("unstable", f"stage {stage.name}: the model of stage {name} has a loss of {loss}")
    if found["difference"] is not None and not found["difference"] <= stage.growth_check.tolerance:
        raise StageFailed(
            "unstable",
            f"stage {stage.name}: the loss of a token differs by {found['difference']:.2g} nats across the growth, "
            f"where growth_check.tolerance allows {stage.growth_check.tolerance:g}; raise it, or take another operator",
        )
    return found


def growth_check_flops(context: StageContext[GrowStage], growth: Growth) -> float:
    """FLOPs of the forward passes of the check."""
    length = context.data.sequence_tokens
    tokens = context.config.growth_check.sequences * length
    passes: list[tuple[ConfigDict, int | None]] = [(growth.parent, None), (growth.config, None)]
    if growth.equal_order is not None and not growth.keeps_function:
        passes.append((growth.parent, len(growth.equal_order)))
    return sum(model_flops(model, tokens=tokens, sequence_tokens=length, layers=layers) for model, layers in passes)


def _measure(
    context: StageContext[GrowStage], growth: Growth, student: StateReader, folder: str, batch: Batch
) -> dict[str, float | None]:
    before = _losses(context, student, batch)
    after = _losses(context, StateReader.open(context.storage, folder, verify=False), batch)
    same: Tensor | None = before
    if not growth.keeps_function:
        order = growth.equal_order
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
    """[N] the loss of each counted token under one model, on the host."""
    model = FrozenModel(reader, zero_level="none", dtype=torch.float32, world=context.world)
    with closing(model):
        model.network.run_layers(order)
        return token_nll(model, batch.to(context.world.device)).cpu()[batch.token_mask.flatten()]


def _text(context: StageContext[GrowStage], growth: Growth) -> Batch | None:
    """The first sequences of the training text as one batch; None on all workers but rank zero."""
    sequences = context.sequences("train")
    if not context.world.is_rank_zero:
        return None
    batch = make_batch(sequences, np.arange(min(len(sequences), context.config.growth_check.sequences)))
    masking = Masking.of(growth.parent, context.tokenizer(), share=0.15, seed=context.job.seed)
    return masking.apply(batch, 0) if masking else batch
