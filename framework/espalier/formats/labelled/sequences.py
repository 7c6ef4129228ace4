"""The sequences of labelled samples on a worker."""

from __future__ import annotations

from typing import Any

from espalier.data.fingerprint import Split
from espalier.data.labelled_sequences import LabelledSequences, ReadAt
from espalier.models.families import is_causal
from espalier.worker.context import StageContext


def sequences(context: StageContext[Any], split: Split) -> LabelledSequences:
    """See `DataFormat.sequences`. The target stands at the token that the model's head reads."""
    model, labelled = context.input_model, context.labelled
    assert labelled is not None
    read_at: ReadAt = "last" if is_causal(model) else "first"
    return LabelledSequences.of(
        labelled.train if split == "train" else labelled.valid,
        context.tokenizer(),
        max_tokens=context.data.sequence_tokens,
        read_at=read_at,
        pad_id=model.get("pad_token_id"),
    )
