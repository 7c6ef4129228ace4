"""The term of the loss on the labels of the data."""

from __future__ import annotations

from espalier.config.format import DataSettings
from espalier.objectives.terms import Term


def label_term(data: DataSettings, *, weight: float = 1.0) -> Term:
    """Cross-entropy of the next token, the masked ones or the class; of a regression the squared error."""
    return Term.of("squared_error" if data.targets == "values" else "cross_entropy").weighted(weight)
