"""Losses of the log-probabilities of given tokens, never holding the logits of all of them.

Preference and policy losses (DPO, arXiv 2305.18290; GRPO, arXiv 2402.03300) see a model only through log q[label] of
each token, a tensor of one number a token. Its gradient is taken by autograd there; a second pass over the head
carries it on, since the gradient of log q[label] by the logits is that of cross-entropy with the sign turned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from espalier.objectives.chunk_pass import Targets
from espalier.objectives.chunked import HeadLoss, chunk_pass, loss_beside_gradients, token_losses
from espalier.objectives.head import Gradients, Head
from espalier.objectives.terms import Term

LogProbabilityLoss = Callable[[Tensor, Tensor | None], Tensor]
"""(log-probabilities [N] of the labels, the reference model's [N] or None; both 0 at tokens that do not count) ->
[number of terms], sums over this microbatch, differentiable by the first."""

_LABELS = Term.of("cross_entropy")


def log_probability_objective(
    hidden: Tensor,
    head_weight: Tensor,
    head_bias: Tensor | None = None,
    *,
    targets: Targets,
    loss: LogProbabilityLoss,
    scales: Sequence[float],
    chunk_tokens: int | None = None,
) -> HeadLoss:
    """Apply a loss to the tokens' log-probabilities and prepare the gradients; extra memory is that of a chunk.

    The head is gone through twice, or once where no gradient is wanted.

    Args:
        hidden: [N, D] of the student, after its final norm.
        head_weight: [V, D].
        head_bias: [V] or None.
        targets: labels of the same N tokens; weights are 1 where a token counts and 0 elsewhere; the signal is the
            reference model's, None without one.
        loss: of the log-probabilities.
        scales: one factor per term: its weight times ranks over its global count.
        chunk_tokens: tokens at a time; None: by `default_chunk_size`.
    """
    alone = Targets(targets.labels, targets.weights)
    tokens = chunk_pass(hidden, Head(head_weight, head_bias), alone, terms=(_LABELS,), chunk_tokens=chunk_tokens)
    reference = _reference(targets, chunk_tokens)

    def compute(wanted: tuple[bool, bool, bool]) -> tuple[Tensor, Gradients | None]:
        log_probabilities = -tokens.values()[0]
        if not any(wanted):
            return loss(log_probabilities, reference).double(), None
        with torch.enable_grad():
            sums = loss(log_probabilities.requires_grad_(), reference)
            scaled = (scale * part for scale, part in zip(scales, sums.unbind(), strict=True))
            total = sum(scaled, sums.new_zeros(()))
            (slope,) = torch.autograd.grad(total, log_probabilities)
        carried = replace(tokens, targets=Targets(targets.labels, -slope))
        return sums.detach().double(), carried.values_and_gradients((1.0,), wanted=wanted)[1]

    return loss_beside_gradients(hidden, head_weight, head_bias, compute, scales, num_tokens=tokens.num_tokens)


def _reference(targets: Targets, chunk_tokens: int | None) -> Tensor | None:
    """[N] log-probabilities that the teacher gives the labels; None without a teacher."""
    if targets.signal is None:
        return None
    signal, alone = targets.signal, Targets(targets.labels, targets.weights)
    return -token_losses(
        signal.hidden, signal.head_weight, signal.head_bias, targets=alone, term=_LABELS, chunk_tokens=chunk_tokens
    )
