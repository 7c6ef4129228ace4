"""The stock class that a configuration is run by, and the head that it has."""

from __future__ import annotations

from espalier.models.families import family_of, stock_class
from espalier.models.shape import ConfigDict


def architecture(config: ConfigDict) -> str:
    """Name of the transformers class; `shape_of` has refused any that our tables do not describe."""
    named = config.get("architectures")
    return named[0] if named else default_architecture(config)


def default_architecture(config: ConfigDict) -> str:
    """The class of a configuration that names none."""
    return next(iter(family_of(config).classes))


def is_masked_lm(config: ConfigDict) -> bool:
    """Whether the model is a masked language model."""
    return stock_class(config).head_kind == "masked_lm"


def is_language_model(config: ConfigDict) -> bool:
    """Whether the model predicts tokens: the next ones, or masked ones."""
    return stock_class(config).head_kind in ("causal_lm", "masked_lm")


def is_classifier(config: ConfigDict) -> bool:
    """Whether the model's outputs are classes, or the one value of a regression."""
    return architecture(config) == family_of(config).class_for("classifier")
