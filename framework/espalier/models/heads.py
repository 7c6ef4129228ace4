"""Where a stock model keeps its head, and what its hidden states pass on the way there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class HeadPlace:
    """The linear map at the end of a model.

    Attributes:
        path: of its module, as `model.get_submodule` takes it.
        before: what hidden states [B, T, D] pass between the body and it; modules of the model are called whole, so
            that a sharded engine brings their weights.
    """

    path: str
    before: Callable[[nn.Module, Tensor], Tensor]


def head_place(architecture: str) -> HeadPlace | None:
    """Of a stock class that our tables describe; None for a bare body.

    A classifier's head is applied at every token; which of them is read (the first of an encoder, the last of a
    decoder) is a matter of labels, as with every other head.
    """
    if architecture == "BertModel":
        return None
    if architecture == "BertForMaskedLM":
        return HeadPlace("cls.predictions.decoder", lambda model, hidden: model.cls.predictions.transform(hidden))
    if architecture == "BertForSequenceClassification":
        return HeadPlace("classifier", _pooled)
    if architecture.endswith("ForSequenceClassification"):
        return HeadPlace("score", _unchanged)
    return HeadPlace("lm_head", _unchanged)


def _unchanged(model: nn.Module, hidden: Tensor) -> Tensor:
    return hidden


def _pooled(model: nn.Module, hidden: Tensor) -> Tensor:
    pooler = model.bert.pooler
    return model.dropout(pooler.activation(pooler.dense(hidden)))
