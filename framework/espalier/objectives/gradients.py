"""Each loss with its gradient by the student's logits, in closed form: a few passes over one chunk, no graph.

With q = softmax(s), any loss f(q) has the gradient q * (u - sum(q u)), u = df/dq. For cross_entropy and
forward_kl that is q minus the target; the others are written out below. `logits_gradient` is the only place
that chooses how a chunk is computed: a fused kernel for a GPU goes in there, behind the same signature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from espalier.objectives.divergences import log_mixture
from espalier.objectives.terms import Term


def scaled_gradient(
    terms: Sequence[Term],
    scales: Sequence[float],
    student_logits: Tensor,
    *,
    teacher_logits: Tensor | None,
    labels: Tensor,
) -> tuple[Tensor, Tensor]:
    """Every term's values [number of terms, N], unscaled, and the gradient [N, V] of their scaled sum.

    Inputs are those of `logits_gradient`, and overwritten too.
    """
    values, total = [], None
    for position, (term, scale) in enumerate(zip(terms, scales, strict=True)):
        student, teacher = student_logits, teacher_logits
        if position < len(terms) - 1:  # the next term needs them whole
            student, teacher = student.clone(), teacher.clone() if term.needs_teacher else None
        value, gradient = logits_gradient(term, student, teacher_logits=teacher, labels=labels)
        values.append(value)
        total = gradient.mul_(scale) if total is None else total.add_(gradient, alpha=scale)
    return torch.stack(values), total


def logits_gradient(
    term: Term, student_logits: Tensor, *, teacher_logits: Tensor | None, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """The term's value at each token and its gradient by the student's logits, without the term's weight.

    Args:
        student_logits: [N, V] float32 or float64; overwritten.
        teacher_logits: [N, V] of the same dtype; overwritten. None for cross_entropy.
        labels: [N] int64, each in the vocabulary.

    Returns:
        Values [N] and gradient [N, V], which may lie in the memory of an input.
    """
    if term.function == "cross_entropy":
        return _cross_entropy(student_logits, labels)
    assert teacher_logits is not None, f"{term.function} needs a teacher's signal"
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
    log_q, log_p = _log_softmax(student), _log_softmax(teacher)
    log_m = log_mixture(log_p, log_q, share=beta)
    teacher_part = (log_p - log_m).mul_(log_p.exp_()).sum(-1)
    slope = torch.sub(log_q, log_m, out=log_m)  # df/dq up to a constant, which centring removes
    student_part, gradient = _centred(log_q.exp_(), slope)
    return beta * teacher_part + (1 - beta) * student_part, gradient.mul_(1 - beta)


def _skewed_forward_kl(student: Tensor, teacher: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    log_q, log_p = _log_softmax(student), _log_softmax(teacher)
    log_m = log_mixture(log_p, log_q, share=skew)
    log_p.sub_(log_m)  # log(p / m)
    p_over_m = log_p.exp()
    values = log_m.exp_().mul_(p_over_m).mul_(log_p).sum(-1)
    _, gradient = _centred(log_q.exp_(), p_over_m)
    return values, gradient.mul_(skew - 1)


def _skewed_reverse_kl(student: Tensor, teacher: Tensor, skew: float) -> tuple[Tensor, Tensor]:
    log_q, log_p = _log_softmax(student), _log_softmax(teacher)
    log_m = log_mixture(log_q, log_p, share=skew)
    log_ratio = torch.sub(log_q, log_m, out=log_m)  # log(q / m)
    q = log_q.exp_()
    values = torch.mul(q, log_ratio, out=log_p).sum(-1)
    slope = log_ratio.sub_(torch.exp(log_ratio, out=log_p), alpha=skew)
    return values, _centred(q, slope)[1]


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


def _log_softmax(logits: Tensor) -> Tensor:
    """In place, so that the caller's buffer holds one tensor instead of two."""
    return logits.sub_(logits.logsumexp(-1, keepdim=True))
