"""The plainest possible head objective: all logits at once, written from the definitions, for comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.objectives.chunked import Targets
from espalier.objectives.signal import Signal
from espalier.objectives.terms import Term

TOKENS, HIDDEN, TEACHER_HIDDEN, VOCABULARY = 23, 7, 11, 29
ALL_TERMS = (
    Term.of("cross_entropy"),
    Term.of("forward_kl"),
    Term.of("forward_kl", temperature=2.5),
    Term.of("reverse_kl", temperature=0.8),
    Term.of("jsd", beta=0.3),
    Term.of("jsd", beta=0.5, temperature=1.7),
    Term.of("skewed_forward_kl", skew=0.1),
    Term.of("skewed_reverse_kl", skew=0.2, temperature=3.0),
)


def name(parameter: object) -> str | None:
    """A short test id for a term; several are called `all`."""
    if isinstance(parameter, Term):
        return "-".join(map(str, parameter.settings.model_dump(exclude={"weight"}).values()))
    if isinstance(parameter, tuple) and isinstance(parameter[0], Term):
        return name(parameter[0]) if len(parameter) == 1 else "all"
    return None


def parts_of(signal: Signal) -> list[Tensor | None]:
    """Hidden states, head weight and head bias."""
    return [signal.hidden, signal.head_weight, signal.head_bias]


@dataclass(frozen=True)
class Case:
    """Inputs of a head objective; hidden, weight and bias are leaves that want gradients."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    targets: Targets

    def leaves(self) -> list[Tensor]:
        return [leaf for leaf in (self.hidden, self.weight, self.bias) if leaf is not None]

    def to(self, dtype: torch.dtype, device: str | None = None) -> Case:
        signal = self.targets.signal
        moved = Signal(*(None if x is None else x.to(device, dtype) for x in parts_of(signal)))
        leaves = [None if x is None else x.detach().to(device, dtype).requires_grad_() for x in self._parts()]
        labels, weights = self.targets.labels.to(device), self.targets.weights.to(device)
        return Case(*leaves, targets=Targets(labels, weights, moved))

    def _parts(self) -> list[Tensor | None]:
        return [self.hidden, self.weight, self.bias]


def make_case(
    *,
    dtype: torch.dtype = torch.float64,
    bias: bool = True,
    tokens: int = TOKENS,
    vocabulary: int = VOCABULARY,
) -> Case:
    """Spread-out logits, a third of the tokens masked (their label is NO_LABEL), uneven weights."""
    stream = torch.Generator().manual_seed(tokens * vocabulary)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=stream, dtype=torch.float64).to(dtype)

    weights = torch.rand(tokens, generator=stream) + 0.5
    labels = torch.randint(vocabulary, (tokens,), generator=stream)
    masked = torch.arange(tokens) % 3 == 1
    signal = Signal(
        normal(tokens, TEACHER_HIDDEN),
        normal(vocabulary, TEACHER_HIDDEN),
        normal(vocabulary) if bias else None,
    )
    targets = Targets(labels.masked_fill(masked, -100), weights.masked_fill(masked, 0.0), signal)
    leaves = normal(tokens, HIDDEN), normal(vocabulary, HIDDEN), normal(vocabulary) if bias else None
    return Case(*(None if x is None else x.requires_grad_() for x in leaves), targets=targets)


def naive_values(case: Case, term: Term) -> Tensor:
    """[N], unweighted; the labels of tokens that do not count are read as 0."""
    signal = case.targets.signal
    student = _logits(case.hidden, case.weight, case.bias)
    teacher = _logits(signal.hidden, signal.head_weight, signal.head_bias)
    if term.function == "cross_entropy":
        labels = case.targets.labels.clamp(min=0)
        return -student.softmax(-1).log()[torch.arange(len(labels)), labels]
    settings = term.settings
    q, p = (student / settings.temperature).softmax(-1), (teacher / settings.temperature).softmax(-1)
    beta, skew = getattr(settings, "beta", None), getattr(settings, "skew", None)
    by_function = {
        "forward_kl": lambda: _kl(p, q),
        "reverse_kl": lambda: _kl(q, p),
        "jsd": lambda: beta * _kl(p, beta * p + (1 - beta) * q) + (1 - beta) * _kl(q, beta * p + (1 - beta) * q),
        "skewed_forward_kl": lambda: _kl(p, skew * p + (1 - skew) * q),
        "skewed_reverse_kl": lambda: _kl(q, skew * q + (1 - skew) * p),
    }
    return settings.temperature**2 * by_function[term.function]()


def naive_sums(case: Case, terms: Sequence[Term]) -> Tensor:
    """[number of terms], on the graph."""
    return torch.stack([(naive_values(case, term) * case.targets.weights).sum() for term in terms])


def gradients(total: Tensor, case: Case) -> list[Tensor]:
    return list(torch.autograd.grad(total, case.leaves()))


def relative_error(got: Tensor, right: Tensor) -> float:
    return float((got.double() - right.double()).norm() / right.double().norm())


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = (hidden @ weight.t()).to(torch.promote_types(hidden.dtype, torch.float32))
    return logits if bias is None else logits + bias


def _kl(a: Tensor, b: Tensor) -> Tensor:
    return (a * (a / b).log()).sum(-1)
