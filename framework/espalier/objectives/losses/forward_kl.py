"""KL(p || q) = sum p (log p - log q), p the teacher's distribution and q the student's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from espalier.config.base import Temperature
from espalier.config.loss import Loss, LossSettings
from espalier.objectives.distributions import kl, softmax, tempered_gradient, tempered_values

if TYPE_CHECKING:
    from torch import Tensor


class ForwardKL(LossSettings):
    """KL(teacher || student), the classic loss of distillation: the student covers all that the teacher does."""

    function: Literal["forward_kl"]
    temperature: Temperature = 1.0
    """Divides both models' logits; the value is multiplied by its square."""


def _values(settings: ForwardKL, student: Tensor, teacher: Tensor) -> Tensor:
    return kl(teacher.log_softmax(-1), student.log_softmax(-1))


def _gradient(settings: ForwardKL, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient by the logits: q - p."""
    p, teacher_log_sum = softmax(teacher)
    gap = teacher.sub_(student).mul_(p).sum(-1)
    q, student_log_sum = softmax(student, out=teacher)  # `teacher` has served
    values = gap + (student_log_sum - teacher_log_sum).squeeze(-1)
    return values, q.sub_(p)


FORWARD_KL = Loss(
    ForwardKL,
    compares="classes",
    needs_teacher=True,
    values=tempered_values(_values),
    gradient=tempered_gradient(_gradient),
)
