"""The values of terms at each token, and their gradient by the student's logits: in closed form, or by autograd.

Both work on a block of rows [N, V]; nothing is summed over tokens here. On GPUs `fused.py` mostly takes the place of
this, and is held against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from espalier.objectives.terms import Term


def token_values(term: Term, student_logits: Tensor, *, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
    """The term's value at each token, [N], without the term's weight. Changes none of its inputs."""
    values = term.loss.values(term.settings, student_logits, _teacher_of(term, teacher_logits), labels)
    if values.shape != labels.shape:
        given = f"a tensor of shape {tuple(values.shape)} for {len(labels)} tokens"
        raise ValueError(f"loss {term.function} gives {given}; one value for each is expected")
    return values


def logits_gradient(
    term: Term, student_logits: Tensor, *, teacher_logits: Tensor | None, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The term's value at each token and its gradient by the student's logits, without the term's weight.

    Args:
        student_logits: [N, V] float32 or float64; overwritten.
        teacher_logits: [N, V] of the same dtype; overwritten. None for a term of the labels.
        labels: [N] int64, each in the vocabulary; floating point for a regression.

    Returns:
        Values [N] and gradient [N, V], which may lie in the memory of an input.
    """
    closed = term.loss.gradient
    if closed is None:
        return autograd_gradient(term, student_logits, teacher_logits=teacher_logits, labels=labels)
    return closed(term.settings, student_logits, _teacher_of(term, teacher_logits), labels)


def autograd_gradient(
    term: Term, student_logits: Tensor, *, teacher_logits: Tensor | None, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """`logits_gradient` from the term's values alone; its graph is that of these rows and gone afterwards."""
    leaf = student_logits.detach()
    with torch.enable_grad():
        leaf.requires_grad_()
        values = token_values(term, leaf, teacher_logits=teacher_logits, labels=labels)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
    return values.detach(), gradient.contiguous()  # autograd may give a broadcast view


def scaled_gradient(
    terms: Sequence[Term],
    factors: Sequence[float | Tensor],
    student_logits: Tensor,
    *,
    teacher_logits: Tensor | None,
    labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """Every term's values [number of terms, N], plain, and the gradient [N, V] of their sum times the factors.

    Args:
        factors: of each term: all numbers, or all [N, 1]. With numbers the gradient is still to be multiplied by the
            first of them: the caller has one for each token to bring in anyway, and a pass over [N, V] is saved.
        student_logits: and the rest as in `logits_gradient`, overwritten too.
    """
    values, total, first = [], None, factors[0]
    for position, (term, factor) in enumerate(zip(terms, factors, strict=True)):
        student, teacher = student_logits, teacher_logits
        if position < len(terms) - 1:  # the next term needs them whole
            student = student.clone()
            teacher = teacher.clone() if teacher is not None and term.needs_teacher else None
        value, gradient = logits_gradient(term, student, teacher_logits=teacher, labels=labels)
        values.append(value)
        if isinstance(factor, Tensor) or isinstance(first, Tensor):
            gradient = gradient.mul_(factor)
            total = gradient if total is None else total.add_(gradient)
        else:
            total = gradient if total is None else total.add_(gradient, alpha=factor / first)
    assert total is not None, "at least one term"
    return torch.stack(values), total


def _teacher_of(term: Term, teacher_logits: Tensor | None) -> Tensor:
    """The teacher's logits; None reaches only a loss that needs no teacher."""
    assert teacher_logits is not None or not term.needs_teacher, f"{term.function} needs a teacher's signal"
    return cast(Tensor, teacher_logits)
