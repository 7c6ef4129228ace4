"""Building blocks of the divergences: softmax, mixtures and KL of logits [N, V], in place where memory allows it.

p is the teacher's distribution, q the student's. torch is imported inside functions, because the losses that use these
are declared while a job file is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from torch import Tensor


class Tempered(Protocol):
    """Settings with a temperature."""

    @property
    def temperature(self) -> float: ...


S = TypeVar("S", bound=Tempered)


def tempered_values(
    values: Callable[[S, Tensor, Tensor], Tensor],
) -> Callable[[S, Tensor, Tensor, Tensor], Tensor]:
    """A divergence at temperature tau: tau^2 * D(softmax(t / tau), softmax(s / tau)).

    The square keeps the size of the gradient when tau changes (Hinton et al. 2015, arXiv 1503.02531, section 2).

    Args:
        values: (settings, student [N, V], teacher [N, V]) -> [N], of logits that are already divided.
    """

    def at_temperature(settings: S, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        tau = settings.temperature
        return values(settings, student / tau, teacher / tau) * tau**2

    return at_temperature


def tempered_gradient(
    gradient: Callable[[S, Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Callable[[S, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The closed gradient of a divergence at a temperature, from that of the divergence; overwrites its inputs."""

    def at_temperature(settings: S, student: Tensor, teacher: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        tau = settings.temperature
        if tau == 1.0:
            return gradient(settings, student, teacher)
        found, slope = gradient(settings, student.div_(tau), teacher.div_(tau))
        return found.mul_(tau**2), slope.mul_(tau)

    return at_temperature


def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """KL(a || b) = sum a (log a - log b), [N], of two log-distributions [N, V]."""
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def log_mixture(log_a: Tensor, log_b: Tensor, *, share: float) -> Tensor:
    """log(share a + (1 - share) b) of two log-distributions [N, V]."""
    return (log_a + math.log(share)).logaddexp(log_b + math.log1p(-share))


def softmax(logits: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Probabilities [N, V] and log sum exp [N, 1], the latter read off the largest entry."""
    import torch

    largest = logits.amax(-1, keepdim=True)
    probabilities = torch.softmax(logits, -1, out=out)
    return probabilities, largest - probabilities.amax(-1, keepdim=True).log()


def centred(q: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The mean m = sum(q * slope), [N], and q * (slope - m), in slope's memory.

    The latter is the gradient by the student's logits of a loss f(q) with df/dq = slope.
    """
    weighted = slope.mul_(q)
    mean = weighted.sum(-1)
    return mean, weighted.addcmul_(q, mean.unsqueeze(-1), value=-1.0)


def mixed(student: Tensor, teacher: Tensor, *, teacher_share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """p, q, log(p / q) and log(m / q) for the mixture m = teacher_share p + (1 - teacher_share) q.

    Of log p and log q only the difference is taken, from the logits: each alone is large and would round it away.
    Overwrites both inputs.
    """
    import torch

    p, teacher_log_sum = softmax(teacher)
    q, student_log_sum = softmax(student)
    gap = teacher.sub_(student).sub_(teacher_log_sum - student_log_sum)
    log_student_share = gap.new_full((), math.log1p(-teacher_share))
    scaled = torch.add(gap, math.log(teacher_share), out=student)
    return p, q, gap, torch.logaddexp(scaled, log_student_share, out=student)
