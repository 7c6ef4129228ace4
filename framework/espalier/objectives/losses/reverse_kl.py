"""KL(q || p) = sum q (log q - log p), p the teacher's distribution and q the student's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from espalier.config.base import Temperature
from espalier.config.loss import Loss, LossSettings
from espalier.objectives.distributions import centred, kl, softmax, tempered_gradient, tempered_values

if TYPE_CHECKING:
    from torch import Tensor


class ReverseKL(LossSettings):
    """KL(student || teacher): the student keeps to what the teacher finds likely."""

    function: Literal["reverse_kl"]
    temperature: Temperature = 1.0
    """Divides both models' logits; the value is multiplied by its square."""


def _values(settings: ReverseKL, student: Tensor, teacher: Tensor) -> Tensor:
    return kl(student.log_softmax(-1), teacher.log_softmax(-1))


def _gradient(settings: ReverseKL, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient by q: log(q / p), up to a constant."""
    q, student_log_sum = softmax(student)
    gap, gradient = centred(q, student.sub_(teacher))
    return gap - student_log_sum.squeeze(-1) + teacher.logsumexp(-1), gradient


REVERSE_KL = Loss(
    ReverseKL,
    compares="classes",
    needs_teacher=True,
    values=tempered_values(_values),
    gradient=tempered_gradient(_gradient),
)
