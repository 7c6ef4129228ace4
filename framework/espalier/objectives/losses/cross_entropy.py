"""Cross-entropy with the labels: -log q[label]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from espalier.config.loss import Loss, LossSettings
from espalier.objectives.distributions import softmax

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropy(LossSettings):
    """Cross-entropy with the labels: the next token, masked tokens, or a sample's class."""

    function: Literal["cross_entropy"]


def _values(settings: CrossEntropy, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
    return -student.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)


def _gradient(settings: CrossEntropy, student: Tensor, teacher: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient by the logits: q, less 1 at the label."""
    column = labels.unsqueeze(-1)
    chosen = student.gather(-1, column)
    q, log_sum = softmax(student)
    values = (log_sum - chosen).squeeze(-1)
    return values, q.scatter_add_(-1, column, q.new_full(column.shape, -1.0))


CROSS_ENTROPY = Loss(CrossEntropy, compares="classes", needs_teacher=False, values=_values, gradient=_gradient)
