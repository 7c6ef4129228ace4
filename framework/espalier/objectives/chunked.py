"""The loss of a microbatch and its gradients from hidden states, never holding the logits of all its tokens.

The gradient is computed beside the value, a few tokens at a time, during the forward pass; its upstream is a
scalar, which backward multiplies in. So backward needs neither logits nor head: under zero_level parameters
the head's weight is empty by then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from espalier.objectives.chunk_pass import ChunkPass, Targets
from espalier.objectives.fused import fused_terms
from espalier.objectives.head import Gradients, Head, wide_dtype
from espalier.objectives.sizes import default_chunk_size, fused_chunk_size
from espalier.objectives.terms import Term

Compute = Callable[[tuple[bool, bool, bool]], tuple[Tensor, Gradients | None]]
"""(whether gradients by hidden, weight and bias are wanted) -> sums of the terms [number of terms] float64, and the
gradients of their scaled sum; None where none is wanted. Called without autocast and without a graph."""


@dataclass(frozen=True)
class HeadLoss:
    """The loss of one microbatch on one rank.

    Attributes:
        total: scalar fp32, differentiable once: the terms' sums times their scales, added.
        sums: [number of terms] float64, detached: each term summed over this rank's tokens, times the tokens'
            weights, without the term's own weight or scale.
        num_tokens: tokens of this rank whose weight is not 0.
    """

    total: Tensor
    sums: Tensor
    num_tokens: int


def head_objective(
    hidden: Tensor,
    head_weight: Tensor,
    head_bias: Tensor | None = None,
    *,
    targets: Targets,
    terms: Sequence[Term],
    scales: Sequence[float],
    chunk_tokens: int | None = None,
) -> HeadLoss:
    """Sum the terms over the tokens that count and prepare the gradients; extra memory is that of a chunk.

    Products run in autocast's dtype where it is on, otherwise in that of `hidden`; softmax and sums in fp32.
    The gradient of weight and bias is summed in fp32 over the chunks and rounded once. What needs no gradient
    (a frozen head, no_grad) costs none.

    Args:
        hidden: [N, D] of the student, after its final norm.
        head_weight: [V, D].
        head_bias: [V] or None.
        targets: of the same N tokens.
        terms: at least one.
        scales: one positive factor per term: its weight times ranks over the global count.
        chunk_tokens: tokens at a time; None: by `default_chunk_size`.
    """
    assert len(scales) == len(terms) > 0 and min(scales) > 0, "one positive scale per term, at least one term"
    tokens = chunk_pass(hidden, Head(head_weight, head_bias), targets, terms=terms, chunk_tokens=chunk_tokens)

    def compute(wanted: tuple[bool, bool, bool]) -> tuple[Tensor, Gradients | None]:
        if not any(wanted):
            return tokens.sums(tokens.values()), None
        values, gradients = tokens.values_and_gradients(scales, wanted=wanted)
        return tokens.sums(values), gradients

    return loss_beside_gradients(hidden, head_weight, head_bias, compute, scales, num_tokens=tokens.num_tokens)


def loss_beside_gradients(
    hidden: Tensor,
    head_weight: Tensor,
    head_bias: Tensor | None,
    compute: Compute,
    scales: Sequence[float],
    *,
    num_tokens: int,
) -> HeadLoss:
    """A loss whose gradients are computed with its value; backward multiplies them by the incoming gradient."""
    total, sums = _BesideGradients.apply(
        hidden, head_weight, head_bias, compute, tuple(scales), torch.is_grad_enabled()
    )
    return HeadLoss(total, sums, num_tokens)


def token_losses(
    hidden: Tensor,
    head_weight: Tensor,
    head_bias: Tensor | None = None,
    *,
    targets: Targets,
    term: Term,
    chunk_tokens: int | None = None,
) -> Tensor:
    """The term at each token, for evaluation and for weighting samples; no gradient.

    Returns:
        [N] fp32, neither weighted nor summed; 0 where the target's weight is 0.
    """
    tokens = chunk_pass(hidden, Head(head_weight, head_bias), targets, terms=(term,), chunk_tokens=chunk_tokens)
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        return tokens.values()[0]


@torch.no_grad()
def chunk_pass(
    hidden: Tensor, head: Head, targets: Targets, *, terms: Sequence[Term], chunk_tokens: int | None
) -> ChunkPass:
    """The pass over the tokens that count, cut into chunks."""
    device = hidden.device.type
    vocabulary, signal = len(head.weight), targets.signal
    assert signal is None or len(signal.head_weight) == vocabulary, (
        f"student and teacher need one vocabulary; their heads have {vocabulary} and {len(signal.head_weight)} rows"
    )
    counted = targets.counted
    student, student_hidden = _for_products(hidden, head)
    fused = fused_terms(terms, vocabulary=vocabulary, dtype=student.weight.dtype, device=hidden.device)
    size = chunk_tokens or (default_chunk_size(device, vocabulary) if fused is None else fused_chunk_size(vocabulary))
    teacher = None
    if signal is not None:
        teacher = _for_products(signal.hidden, Head(signal.head_weight, signal.head_bias))
    return ChunkPass(
        student,
        student_hidden,
        teacher=teacher,
        targets=targets,
        terms=tuple(terms),
        chunks=counted.split(size) if counted.numel() else (),
        fused=fused,
    )


def _for_products(hidden: Tensor, head: Head) -> tuple[Head, Tensor]:
    """Head and hidden states, detached, in the dtype that a linear layer called here would compute in."""
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return Head(head.weight.detach().to(dtype), head.bias), hidden.detach().to(dtype)


class _Context(Protocol):
    """The context of an autograd function; torch's own class declares less than it has."""

    needs_input_grad: tuple[bool, ...]
    saved_tensors: tuple[Tensor | None, ...]
    dtypes: tuple[torch.dtype | None, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...

    def mark_non_differentiable(self, *outputs: Tensor) -> None: ...


class _BesideGradients(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        compute: Compute,
        scales: tuple[float, ...],
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        by_hidden, by_weight, by_bias = ctx.needs_input_grad[:3]
        wanted = (by_hidden, by_weight, by_bias) if with_gradients else (False, False, False)
        with torch.autocast(hidden.device.type, enabled=False):
            sums, gradients = compute(wanted)
        if gradients is not None:
            ctx.save_for_backward(gradients.hidden, gradients.weight, gradients.bias)
        ctx.dtypes = tuple(None if tensor is None else tensor.dtype for tensor in (hidden, weight, bias))
        ctx.mark_non_differentiable(sums)
        total = sum((scale * part for scale, part in zip(scales, sums.unbind(), strict=True)), sums.new_zeros(()))
        return total.to(wide_dtype(hidden.dtype)), sums

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(_scaled(gradient, upstream, dtype) for gradient, dtype in gradients), None, None, None)


def _scaled(gradient: Tensor | None, upstream: Tensor, dtype: torch.dtype | None) -> Tensor | None:
    if gradient is None:
        return None
    return torch.mul(gradient, upstream, out=torch.empty_like(gradient, dtype=dtype))  # rounded here, once
