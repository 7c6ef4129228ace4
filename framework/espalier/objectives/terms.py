"""The terms of a stage's loss, as the job lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.config.faults import Fault, RefusedInput
from espalier.config.training import LossConfig, LossFunction

_WITHOUT_TEMPERATURE = ("cross_entropy", "squared_error", "squared_distance")


@dataclass(frozen=True)
class Term:
    """One function of the weighted sum.

    Attributes:
        weight: its factor in the sum.
        temperature: divides both models' logits; the value is multiplied by its square (see divergences.py).
        beta: jsd only, the teacher's share of the mixture.
        skew: skewed divergences only, how much of the first distribution is mixed into the second.
    """

    function: LossFunction
    weight: float = 1.0
    temperature: float = 1.0
    beta: float = 0.5
    skew: float = 0.1

    @property
    def needs_teacher(self) -> bool:
        return self.function not in ("cross_entropy", "squared_error")


def terms_of(losses: Sequence[LossConfig]) -> tuple[Term, ...]:
    """The terms that a stage's `losses` ask for, in their order.

    Raises:
        RefusedInput: a temperature on a function that knows none.
    """
    faults = [
        Fault(f"losses[{position}].temperature", loss.temperature, f"1.0 for {loss.function}; leave it out")
        for position, loss in enumerate(losses)
        if loss.function in _WITHOUT_TEMPERATURE and loss.temperature != 1.0
    ]
    if faults:
        raise RefusedInput(faults)
    return tuple(Term(**loss.model_dump()) for loss in losses)


def names_of(terms: Sequence[Term]) -> tuple[str, ...]:
    """What each term is called in logs: its function, numbered from the second use on (`forward_kl_2`)."""
    seen: Counter[str] = Counter()
    names = []
    for term in terms:
        seen[term.function] += 1
        names.append(term.function if seen[term.function] == 1 else f"{term.function}_{seen[term.function]}")
    return tuple(names)
