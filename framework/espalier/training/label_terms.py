"""The term of the loss on the labels of the data."""

from __future__ import annotations

from espalier.config.data import DataConfig
from espalier.config.labelled import LabelledConfig
from espalier.objectives.terms import Term


def label_term(data: DataConfig | LabelledConfig, *, weight: float = 1.0) -> Term:
    """Cross-entropy of the next token, the masked ones or the class; of a regression the squared error."""
    return Term.of("squared_error" if is_regression(data) else "cross_entropy").weighted(weight)


def is_regression(data: DataConfig | LabelledConfig) -> bool:
    """Whether labels are numbers."""
    return isinstance(data, LabelledConfig) and data.task == "regression"
