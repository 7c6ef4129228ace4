"""Losses of hidden states: which layers they look at, and their sums over the tokens of a microbatch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from espalier.config.loss import HiddenStateSettings
from espalier.objectives.gradients import token_values
from espalier.objectives.head import wide_dtype
from espalier.objectives.terms import Term


def state_terms(terms: Sequence[Term]) -> list[tuple[int, HiddenStateSettings]]:
    """The settings of the terms that compare hidden states, each with its place among all terms."""
    return [
        (place, term.settings) for place, term in enumerate(terms) if isinstance(term.settings, HiddenStateSettings)
    ]


def teacher_layers(terms: Sequence[Term]) -> tuple[int, ...]:
    """The teacher's layers that are compared with, counted from 1, each once."""
    return tuple(sorted({layer for _, settings in state_terms(terms) for _, layer in settings.layers}))


def hidden_state_sum(
    term: Term,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    *,
    weights: Tensor,
) -> Tensor:
    """The term summed over this rank's tokens times their weights, as a mean over the pairs of layers.

    Args:
        student: [B, T, D of the teacher] of each pair, projected where a projection is learned.
        teacher: [B, T, D of the teacher] of each pair; receives no gradient.
        weights: [B, T], 0 where a token does not count. Tokens that do not count are never read.

    Returns:
        Scalar float64, without the term's own weight; differentiable by the student's states.
    """
    counted = weights != 0
    rows = weights[counted].double()
    labels = torch.zeros(len(rows), dtype=torch.int64, device=weights.device)
    total = rows.new_zeros(())
    for ours, theirs in zip(student, teacher, strict=True):
        if ours.shape[-1] != theirs.shape[-1]:
            widths = f"{ours.shape[-1]} and {theirs.shape[-1]}"
            raise ValueError(f"{term.function}: hidden states of the widths {widths} need `projection: learned`")
        wide = wide_dtype(ours.dtype)
        mine, other = ours[counted].to(wide), theirs.detach()[counted].to(wide)
        values = token_values(term, mine, teacher_logits=other, labels=labels)
        total = total + (values.double() * rows).sum()
    return total / len(student)
