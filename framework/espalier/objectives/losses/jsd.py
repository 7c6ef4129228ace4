"""Generalised Jensen-Shannon: beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q.

GKD's definition (arXiv 2306.13649, equation 1), with beta as TRL counts it. Towards beta = 0 it is beta * forward_kl,
towards beta = 1 it is (1 - beta) * reverse_kl; at 0.5 it is symmetric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from espalier.config.base import Temperature
from espalier.config.loss import Loss, LossSettings
from espalier.objectives.distributions import centred, kl, log_mixture, mixed, tempered_gradient, tempered_values

if TYPE_CHECKING:
    from torch import Tensor


class JensenShannon(LossSettings):
    """The generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649), between forward and reverse KL."""

    function: Literal["jsd"]
    temperature: Temperature = 1.0
    """Divides both models' logits; the value is multiplied by its square."""
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5
    """The teacher's share of the mixture that both are compared with."""


def _values(settings: JensenShannon, student: Tensor, teacher: Tensor) -> Tensor:
    beta = settings.beta
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    log_m = log_mixture(log_p, log_q, share=beta)
    return beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)


def _gradient(settings: JensenShannon, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient by q: (1 - beta) log(q / m)."""
    beta = settings.beta
    p, q, gap, log_m_over_q = mixed(student, teacher, teacher_share=beta)
    teacher_part = gap.sub_(log_m_over_q).mul_(p).sum(-1)
    student_part, gradient = centred(q, log_m_over_q.neg_())
    return beta * teacher_part + (1 - beta) * student_part, gradient.mul_(1 - beta)


JSD = Loss(
    JensenShannon,
    compares="classes",
    needs_teacher=True,
    values=tempered_values(_values),
    gradient=tempered_gradient(_gradient),
)
