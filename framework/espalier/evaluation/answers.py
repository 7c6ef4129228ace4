"""A model's outputs for a whole data set, each sample once, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.data.batch import Batch
from espalier.data.batches import in_order
from espalier.data.packing import Sequences
from espalier.distributed.world import World
from espalier.models.network import HeadUse

Ask = Callable[[Batch, HeadUse[Tensor]], Tensor]
"""The forward of an engine or a frozen model, with a function that uses its head."""


def all_answers(
    ask: Ask,
    sequences: Sequences,
    *,
    width: int,
    microbatch_sequences: int,
    world: World,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Predict every sample once: logits, or values. Collective.

    Each worker predicts its part of the samples and writes it into a table of zeros; the sum over workers is exact.
    Microbatches, and so the bits, do not depend on the number of workers.

    Args:
        width: outputs of the model, C.
        on_progress: called with the number of samples predicted by all workers so far.

    Returns:
        [N, C] float32, on the host of every worker.
    """
    table = torch.zeros(len(sequences), width)
    batches = in_order(
        sequences, None, rank=world.rank, num_ranks=world.size, microbatch_sequences=microbatch_sequences
    )
    for number, batch in enumerate(batches, start=1):
        on_device = batch.to(world.device)
        logits = ask(on_device, _at_the_target(on_device))
        if batch.sample_ids[0] >= 0:
            table[batch.sample_ids] = logits.float().cpu()
        on_progress(min(number * microbatch_sequences * world.size, len(sequences)))
    return world.sum(table).cpu()


def probabilities(logits: Tensor) -> NDArray[np.float64]:
    """[N, C] float64 softmax of logits; [N, 1] values of a regression unchanged."""
    return (logits.double().softmax(-1) if logits.shape[1] > 1 else logits.double()).numpy()


def as_logits(answers: NDArray[np.float64]) -> Tensor:
    """[N, C] float32 logits whose softmax is `answers`; [N, 1] values of a regression unchanged."""
    if answers.shape[1] == 1:
        return torch.from_numpy(answers).float()
    return torch.from_numpy(np.log(np.clip(answers, 1e-12, 1.0))).float()


def _at_the_target(batch: Batch) -> HeadUse[Tensor]:
    def use(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.nn.functional.linear(hidden[batch.token_mask], weight, bias)

    return use
