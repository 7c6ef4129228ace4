"""What each loss is: functions of logits, one value per token, in the words of their papers.

These are the definitions. Training computes the same values and their gradients in `gradients.py`; tests hold
the two together. p is the teacher's distribution, q the student's. Logits are [N, V] float32 (float64 in
tests), labels [N] int64, values [N]; nothing is summed over tokens here.

A divergence at temperature tau is tau^2 * D(softmax(t / tau), softmax(s / tau)): the square keeps the size of
the gradient when tau changes (Hinton et al. 2015, arXiv 1503.02531, section 2). At temperature 1 it does
nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from espalier.objectives.terms import Term


def token_values(term: Term, student_logits: Tensor, *, teacher_logits: Tensor | None, labels: Tensor) -> Tensor:
    """The term's value at each token, [N], without the term's weight. Changes none of its inputs."""
    if term.function == "cross_entropy":
        return cross_entropy(student_logits, labels)
    if term.function == "squared_error":
        return squared_error(student_logits, labels.unsqueeze(-1))
    assert teacher_logits is not None, f"{term.function} needs a teacher's signal"
    if term.function == "squared_distance":
        return squared_error(student_logits, teacher_logits)
    student, teacher = student_logits / term.temperature, teacher_logits / term.temperature
    if term.function == "forward_kl":
        values = forward_kl(student, teacher)
    elif term.function == "reverse_kl":
        values = reverse_kl(student, teacher)
    elif term.function == "jsd":
        values = jsd(student, teacher, beta=term.beta)
    elif term.function == "skewed_forward_kl":
        values = skewed_forward_kl(student, teacher, skew=term.skew)
    else:
        values = skewed_reverse_kl(student, teacher, skew=term.skew)
    return values * term.temperature**2


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """-log q[label]."""
    return functional.cross_entropy(student_logits, labels, reduction="none")


def squared_error(values: Tensor, others: Tensor) -> Tensor:
    """The squared distance of a regression's value [N, 1] from a label, or from the teacher's value."""
    return (values - others).square().sum(-1)


def forward_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(p || q) = sum p (log p - log q)."""
    return _kl(teacher_logits.log_softmax(-1), student_logits.log_softmax(-1))


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(q || p) = sum q (log q - log p)."""
    return _kl(student_logits.log_softmax(-1), teacher_logits.log_softmax(-1))


def jsd(student_logits: Tensor, teacher_logits: Tensor, *, beta: float) -> Tensor:
    """Generalised Jensen-Shannon: beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q.

    GKD's definition (arXiv 2306.13649, equation 1), with beta as TRL counts it. Towards beta = 0 it is
    beta * forward_kl, towards beta = 1 it is (1 - beta) * reverse_kl; at 0.5 it is symmetric.
    """
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    log_m = _log_mixture(log_p, log_q, share=beta)
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def skewed_forward_kl(student_logits: Tensor, teacher_logits: Tensor, *, skew: float) -> Tensor:
    """KL(p || skew p + (1 - skew) q); DistiLLM (arXiv 2402.03898), section 3.1."""
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return _kl(log_p, _log_mixture(log_p, log_q, share=skew))


def skewed_reverse_kl(student_logits: Tensor, teacher_logits: Tensor, *, skew: float) -> Tensor:
    """KL(q || skew q + (1 - skew) p); DistiLLM, section 3.1."""
    log_q, log_p = student_logits.log_softmax(-1), teacher_logits.log_softmax(-1)
    return _kl(log_q, _log_mixture(log_q, log_p, share=skew))


def _log_mixture(log_a: Tensor, log_b: Tensor, *, share: float) -> Tensor:
    """log(share a + (1 - share) b) of two log-distributions [N, V]."""
    return torch.logaddexp(log_a + math.log(share), log_b + math.log1p(-share))


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    return (log_a.exp() * (log_a - log_b)).sum(-1)
