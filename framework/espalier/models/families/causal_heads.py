"""The two heads that transformers puts on every causal body: `lm_head` over the vocabulary, `score` over classes."""

from __future__ import annotations

from espalier.models.families.family import StockClass
from espalier.models.families.parameter_specs import (
    Table,
    hidden_axis,
    labels_axis,
    linear,
    vocabulary_axis,
)
from espalier.models.shape import ConfigDict, ModelShape


def causal_classes(*, language_model: str, classifier: str | None, embedding: str) -> dict[str, StockClass]:
    """The stock classes of a causal family, its language model first.

    Args:
        classifier: None where transformers has none.
        embedding: full name of the token embedding's weight.
    """
    classes = {
        language_model: StockClass(
            head_kind="causal_lm",
            head="lm_head",
            parameters=_language_model,
            ties={"lm_head.weight": embedding},
        )
    }
    if classifier is not None:
        classes[classifier] = StockClass(
            head_kind="classifier", head="score", parameters=_classifier, initialised=("score.",)
        )
    return classes


def is_embedding_read(config: ConfigDict, shape: ModelShape, *, classifier: str | None) -> bool:
    """Whether the head is the embedding: tied, and no classifier."""
    return shape.tied and (config.get("architectures") or [None])[0] != classifier


def _language_model(config: ConfigDict, shape: ModelShape) -> Table:
    if shape.tied:
        return {}
    return linear("lm_head", out=vocabulary_axis(shape), into=hidden_axis(shape), bias=False)


def _classifier(config: ConfigDict, shape: ModelShape) -> Table:
    return linear("score", out=labels_axis(config), into=hidden_axis(shape), bias=False)
