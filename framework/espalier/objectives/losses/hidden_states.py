"""The distance of a hidden state of the student, projected, from the teacher's at the same token.

Mean squared error: TinyBERT (arXiv 1909.10351, equation 8); Minitron's intermediate losses take the cosine by default
(arXiv 2407.14679, section 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from espalier.config.loss import HiddenStateSettings, Loss

if TYPE_CHECKING:
    from torch import Tensor


class HiddenMSE(HiddenStateSettings):
    """The squared distance of chosen hidden states from the teacher's, as a mean over their width (TinyBERT)."""

    function: Literal["hidden_mse"]


class HiddenCosine(HiddenStateSettings):
    """1 minus the cosine between chosen hidden states and the teacher's (Minitron)."""

    function: Literal["hidden_cosine"]


def _squared(settings: HiddenMSE, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return (student - teacher).square().mean(-1)


def _cosine(settings: HiddenCosine, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    lengths = student.norm(dim=-1).clamp(min=_LEAST) * teacher.norm(dim=-1).clamp(min=_LEAST)
    return 1.0 - (student * teacher).sum(-1) / lengths


_LEAST = 1e-8
"""Of a length: a state of nothing but zeros has no direction, and a gradient of 0."""

HIDDEN_MSE = Loss(HiddenMSE, compares="states", needs_teacher=True, values=_squared)
HIDDEN_COSINE = Loss(HiddenCosine, compares="states", needs_teacher=True, values=_cosine)
