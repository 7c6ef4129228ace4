"""The divergence of a student from a teacher for each sequence of text."""

from __future__ import annotations

import torch
from torch import Tensor

from espalier.data.batches import in_order
from espalier.data.packing import Sequences
from espalier.distributed.world import World
from espalier.engine.objective import token_targets
from espalier.evaluation.answers import Ask
from espalier.models.network import HeadUse
from espalier.objectives.chunk_pass import Targets
from espalier.objectives.chunked import token_losses
from espalier.objectives.terms import Term
from espalier.teachers.source import SignalSource


def sequence_distances(
    ask: Ask, teacher: SignalSource, sequences: Sequences, *, term: Term, microbatch_sequences: int, world: World
) -> Tensor:
    """Measure the divergence of each sequence, as the mean over its counted tokens. Collective.

    Args:
        ask: the student's forward.
        term: the divergence.

    Returns:
        [N] float64 in nats, on the host of every worker.
    """
    table = torch.zeros(len(sequences), dtype=torch.float64)
    for batch in in_order(
        sequences, None, rank=world.rank, num_ranks=world.size, microbatch_sequences=microbatch_sequences
    ):
        on_device = batch.to(world.device)
        with teacher.signal(on_device) as signal:
            values = ask(on_device, _values(token_targets(on_device, signal), term))
        counted = on_device.token_mask
        sums = (values.view(counted.shape).double() * counted).sum(1)
        if batch.sample_ids[0] >= 0:
            table[batch.sample_ids] = (sums / counted.sum(1).clamp_min(1)).cpu()
    return world.sum(table).cpu()


def _values(targets: Targets, term: Term) -> HeadUse[Tensor]:
    def use(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return token_losses(hidden.flatten(0, 1), weight, bias, targets=targets, term=term)

    return use
