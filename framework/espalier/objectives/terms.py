"""The terms of a stage's loss, as the job lists them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from espalier.config.loss import Loss, LossSettings
from espalier.config.losses import LOSSES, loss_config


@dataclass(frozen=True)
class Term:
    """One loss of the weighted sum, with its settings."""

    settings: LossSettings

    @staticmethod
    def of(function: str, **settings: Any) -> Term:
        """A term by the name of its loss, with settings as in a job file: `Term.of("jsd", beta=0.3)`."""
        return Term(loss_config(function, **settings))

    @property
    def function(self) -> str:
        """The name of its loss."""
        return self.settings.function

    @property
    def loss(self) -> Loss[Any]:
        return LOSSES[self.function]

    @property
    def weight(self) -> float:
        """Its factor in the sum."""
        return self.settings.weight

    def weighted(self, weight: float) -> Term:
        """The same term with another weight, of any sign."""
        return Term(self.settings.model_copy(update={"weight": weight}))

    @property
    def needs_teacher(self) -> bool:
        return self.loss.needs_teacher


def terms_of(losses: Sequence[LossSettings]) -> tuple[Term, ...]:
    """The terms that a stage's `losses` ask for, in their order."""
    return tuple(Term(loss) for loss in losses)


def names_of(terms: Sequence[Term]) -> tuple[str, ...]:
    """What each term is called in logs: its function, numbered from the second use on (`forward_kl_2`)."""
    times: Counter[str] = Counter()
    names = []
    for one in terms:
        times[one.function] += 1
        names.append(one.function if times[one.function] == 1 else f"{one.function}_{times[one.function]}")
    return tuple(names)
