"""KL to a mixture with the other distribution (DistiLLM, arXiv 2402.03898, section 3.1), forward and reverse.

Forward: KL(p || skew p + (1 - skew) q). Reverse: KL(q || skew q + (1 - skew) p). p is the teacher's distribution, q the
student's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from espalier.config.base import Temperature
from espalier.config.loss import Loss, LossSettings
from espalier.objectives.distributions import centred, kl, log_mixture, mixed, tempered_gradient, tempered_values

if TYPE_CHECKING:
    from torch import Tensor

Skew = Annotated[float, Field(gt=0.0, lt=1.0)]


class SkewedForwardKL(LossSettings):
    """KL(teacher || mixture) of DistiLLM (arXiv 2402.03898): forward_kl whose gradient stays bounded."""

    function: Literal["skewed_forward_kl"]
    temperature: Temperature = 1.0
    """Divides both models' logits; the value is multiplied by its square."""
    skew: Skew = 0.1
    """How much of the teacher is mixed into the student."""


class SkewedReverseKL(LossSettings):
    """KL(student || mixture) of DistiLLM (arXiv 2402.03898): reverse_kl whose gradient stays bounded."""

    function: Literal["skewed_reverse_kl"]
    temperature: Temperature = 1.0
    """Divides both models' logits; the value is multiplied by its square."""
    skew: Skew = 0.1
    """How much of the student is mixed into the teacher."""


def _forward_values(settings: SkewedForwardKL, student: Tensor, teacher: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    return kl(log_p, log_mixture(log_p, log_q, share=settings.skew))


def _forward_gradient(settings: SkewedForwardKL, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient by q: (skew - 1) p / m."""
    p, q, gap, log_m_over_q = mixed(student, teacher, teacher_share=settings.skew)
    log_p_over_m = gap.sub_(log_m_over_q)
    values = p.mul_(log_p_over_m).sum(-1)
    return values, centred(q, log_p_over_m.exp_())[1].mul_(settings.skew - 1)


def _reverse_values(settings: SkewedReverseKL, student: Tensor, teacher: Tensor) -> Tensor:
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    return kl(log_q, log_mixture(log_q, log_p, share=settings.skew))


def _reverse_gradient(settings: SkewedReverseKL, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient by q: log(q / m) - skew q / m, up to a constant."""
    import torch

    _, q, gap, log_m_over_q = mixed(student, teacher, teacher_share=1 - settings.skew)
    log_q_over_m = log_m_over_q.neg_()
    values = torch.mul(q, log_q_over_m, out=gap).sum(-1)
    slope = log_q_over_m.sub_(torch.exp(log_q_over_m, out=gap), alpha=settings.skew)
    return values, centred(q, slope)[1]


SKEWED_FORWARD_KL = Loss(
    SkewedForwardKL,
    compares="classes",
    needs_teacher=True,
    values=tempered_values(_forward_values),
    gradient=tempered_gradient(_forward_gradient),
)
SKEWED_REVERSE_KL = Loss(
    SkewedReverseKL,
    compares="classes",
    needs_teacher=True,
    values=tempered_values(_reverse_values),
    gradient=tempered_gradient(_reverse_gradient),
)
