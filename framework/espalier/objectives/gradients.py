"""Each loss with its gradient by the student's logits, in closed form: a few passes over one chunk, no graph.

With q = softmax(s), any loss f(q) has the gradient q * (u - sum(q u)), u = df/dq. For cross_entropy and
forward_kl that is q minus the target; the others are written out below. `logits_gradient` is the only place
that chooses how a chunk is computed: a fused kernel for a GPU goes in there, behind the same signature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from espalier.objectives.terms import Term


def scaled_gradient(
    terms: Sequence[Term],
    factors: Sequence[float] | Sequence[Tensor],
    student_logits: Tensor,
    *,
    teacher_logits: Tensor | None,
    labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """Every term's values [number of terms, N], plain, and the gradient [N, V] of their sum times the factors.

    Args:
        factors: of each term: a number, or [N, 1]. With numbers the gradient is still to be multiplied by the
            first of them: the caller has one for each token to bring in anyway, and a pass over [N, V] is saved.
        student_logits: and the rest as in `logits_gradient`, overwritten too.
    """
    values, total = [], None
    for position, (term, factor) in enumerate(zip(terms, factors, strict=True)):
        student, teacher = student_logits, teacher_logits
        if position < len(terms) - 1:  # the next term needs them whole
            student, teacher = student.clone(), teacher.clone() if term.needs_teacher else None
        value, gradient = logits_gradient(term, student, teacher_logits=teacher, labels=labels)
        values.append(value)
        if isinstance(factor, Tensor):
            gradient = gradient.mul_(factor)
            total = gradient if total is None else total.add_(gradient)
        else:
            total = gradient if total is None else total.add_(gradient, alpha=factor / factors[0])
    return torch.stack(values), total


def logits_gradient(
    term: Term, student_logits: Tensor, *, teacher_logits: Tensor | None, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The term's value at each token and its gradient by the student's logits, without the term's weight.

    Args:
        student_logits: [N, V] float32 or float64; overwritten.
        teacher_logits: [N, V] of the same dtype; overwritten. None for a term of the labels.
        labels: [N] int64, each in the vocabulary; floating point for squared_error.

    Returns:
        Values [N] and gradient [N, V], which may lie in the memory of an input.
    """
    if term.function == "cross_entropy":
        return _cross_entropy(student_logits, labels)
    if term.function == "squared_error":
        return _squared_error(student_logits, labels.unsqueeze(-1))
    assert teacher_logits is not None, f"{term.function} needs a teacher's signal"
    if term.function == "squared_distance":
        return _squared_error(student_logits, teacher_logits)
    if term.temperature == 1.0:
        return _divergence(term, student_logits, teacher_logits)
    tau = term.temperature
    values, gradient = _divergence(term, student_logits.div_(tau), teacher_logits.div_(tau))
    return values.mul_(tau**2), gradient.mul_(tau)


def _divergence(term: Term, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if term.function == "forward_kl":
        return _forward_kl(student, teacher)
    if term.function == "reverse_kl":
        return _reverse_kl(student, teacher)
    if term.function == "jsd":
        return _jsd(student, teacher, term.beta)
    if term.function == "skewed_forward_kl":
        return _skewed_forward_kl(student, teacher, term.skew)
    return _skewed_reverse_kl(student, teacher, term.skew)


def _cross_entropy(student: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    column = labels.unsqueeze(-1)
    chosen = student.gather(-1, column)
    q, log_sum = _softmax(student)
    values = (log_sum - chosen).squeeze(-1)
    return values, q.scatter_add_(-1, column, q.new_full(column.shape, -1.0))


def _squared_error(values: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    gap = values.sub_(others)
    return gap.square().sum(-1), gap.mul_(2.0)


def _forward_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    p, teacher_log_sum = _softmax(teacher)
    gap = teacher.sub_(student).mul_(p).sum(-1)
    q, student_log_sum = _softmax(student, out=teacher)  # `teacher` has served
    values = gap + (student_log_sum - teacher_log_sum).squeeze(-1)
    return values, q.sub_(p)


def _reverse_kl(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    q, student_log_sum = _softmax(student)
    gap, gradient = _centred(q, student.sub_(teacher))
    return gap - student_log_sum.squeeze(-1) + teacher.logsumexp(-1), gradient


def _jsd(student: Tensor, teacher: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    p, q, gap, log_m_over_q = _mixed(student, teacher, teacher_share=beta)
    teacher_part = gap.sub_(log_m_over_q).mul_(p).sum(-1)
    student_part, gradient = _centred(q, log_m_over_q.neg_())  # df/dq is (1 - beta) log(q / m)
    return beta * teacher_part + (1 - beta) * student_part, gradient.mul_(1 - beta)


def _skewed_forward_kl(student: Tensor, teacher: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    p, q, gap, log_m_over_q = _mixed(student, teacher, teacher_share=skew)
    log_p_over_m = gap.sub_(log_m_over_q)
    values = p.mul_(log_p_over_m).sum(-1)
    return values, _centred(q, log_p_over_m.exp_())[1].mul_(skew - 1)  # df/dq is (skew - 1) p / m


def _skewed_reverse_kl(student: Tensor, teacher: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    _, q, gap, log_m_over_q = _mixed(student, teacher, teacher_share=1 - skew)
    log_q_over_m = log_m_over_q.neg_()
    values = torch.mul(q, log_q_over_m, out=gap).sum(-1)
    slope = log_q_over_m.sub_(torch.exp(log_q_over_m, out=gap), alpha=skew)  # log(q / m) - skew q / m
    return values, _centred(q, slope)[1]


def _mixed(student: Tensor, teacher: Tensor, *, teacher_share: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """p, q, log(p / q) and log(m / q) for the mixture m.

    Of log p and log q only the difference is taken, from the logits: each alone is large and would round it
    away.
    """
    p, teacher_log_sum = _softmax(teacher)
    q, student_log_sum = _softmax(student)
    gap = teacher.sub_(student).sub_(teacher_log_sum - student_log_sum)
    log_student_share = gap.new_full((), math.log1p(-teacher_share))
    scaled = torch.add(gap, math.log(teacher_share), out=student)
    return p, q, gap, torch.logaddexp(scaled, log_student_share, out=student)


def _centred(q: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """The mean m = sum(q * slope), [N], and q * (slope - m), in slope's memory."""
    weighted = slope.mul_(q)
    mean = weighted.sum(-1)
    return mean, weighted.addcmul_(q, mean.unsqueeze(-1), value=-1.0)


def _softmax(logits: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Probabilities [N, V] and log sum exp [N, 1], the latter read off the largest entry."""
    largest = logits.amax(-1, keepdim=True)
    probabilities = torch.softmax(logits, -1, out=out)
    return probabilities, largest - probabilities.amax(-1, keepdim=True).log()
