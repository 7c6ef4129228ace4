"""Perplexity of a model on a text."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.config.faults import Fault, RefusedInput
from espalier.data.batch import Batch
from espalier.data.batches import in_order
from espalier.data.packing import Sequences
from espalier.distributed.world import World
from espalier.engine.frozen import FrozenModel
from espalier.engine.objective import token_targets
from espalier.evaluation.finite import NotFinite, exp
from espalier.objectives.chunked import token_losses
from espalier.objectives.terms import Term


@dataclass(frozen=True)
class Perplexity:
    """The perplexity of a model on a text, over all workers.

    Attributes:
        nll: mean negative log-likelihood of a counted token, in nats.
        num_tokens: tokens that were predicted.
        num_passed: tokens that went through the model, padding left out.
        seconds: of the forward passes.
    """

    nll: float
    num_tokens: int
    num_passed: int
    seconds: float

    @property
    def perplexity(self) -> float:
        """exp(nll); infinite above 709 nats."""
        return exp(self.nll)


def measure_perplexity(
    model: FrozenModel,
    sequences: Sequences,
    *,
    num_sequences: int | None,
    microbatch_sequences: int,
    world: World,
    prepared: Callable[[Batch], Batch] = lambda batch: batch,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Perplexity:
    """Measure the perplexity on the first sequences, shared out over workers. Collective.

    Args:
        num_sequences: how many, from the start of the text; None for all.
        prepared: transforms each batch first, as the masking of tokens.
        on_progress: called with sequences done, all workers.

    Raises:
        NotFinite: the mean loss is NaN or infinite.
        RefusedInput: no token of the text is to be predicted.
    """
    batches = in_order(
        sequences,
        num_sequences,
        rank=world.rank,
        num_ranks=world.size,
        microbatch_sequences=microbatch_sequences,
    )
    sums = torch.zeros(3, dtype=torch.float64)  # nats, tokens predicted, tokens passed
    start = time.perf_counter()
    for number, batch in enumerate(batches, start=1):
        batch = prepared(batch)
        losses = token_nll(model, batch.to(world.device))
        passed = batch.input_ids.numel() if batch.documents is None else int((batch.documents >= 0).sum())
        sums += torch.tensor([float(losses.double().sum()), batch.num_counted_tokens(), passed], dtype=torch.float64)
        on_progress(number * microbatch_sequences * world.size)
    nats, tokens, passed = world.sum(sums).tolist()
    if not tokens:
        allowed = "text with a token to predict: a document of two tokens or more, or for a masked model more text"
        raise RefusedInput([Fault("data.valid", f"{int(passed)} tokens, of which none is predicted", allowed)])
    if not math.isfinite(nats):
        raise NotFinite(f"the mean loss over {int(tokens)} tokens is {nats / tokens}")
    return Perplexity(nats / tokens, int(tokens), int(passed), time.perf_counter() - start)


def token_nll(model: FrozenModel, batch: Batch) -> Tensor:
    """[B * T] float32 negative log-likelihood of each label; 0 where there is none."""
    targets = token_targets(batch, None)

    def losses(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return token_losses(hidden.flatten(0, 1), weight, bias, targets=targets, term=Term.of("cross_entropy"))

    return model.run(batch, losses)
