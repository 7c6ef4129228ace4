"""The sequences of a text on a worker; rank zero makes the cache of tokens if needed."""

from __future__ import annotations

from typing import Any

from espalier.config.data import DataConfig
from espalier.data.fingerprint import Split
from espalier.data.packing import Sequences
from espalier.data.sequences import keep_tokens, open_sequences
from espalier.models.pretrained import PretrainedTokenizer
from espalier.worker.context import StageContext


def sequences(context: StageContext[Any], split: Split) -> Sequences:
    """See `DataFormat.sequences`."""
    data, tokenizer = context.data, context.tokenizer()
    assert isinstance(data, DataConfig)
    kept = context.world.from_rank_zero(
        _keep_tokens(context, split, data, tokenizer) if context.world.is_rank_zero else None
    )
    return open_sequences(data, split, tokenizer=tokenizer, cache=context.folder.cache, kept=kept)


def _keep_tokens(context: StageContext[Any], split: Split, data: DataConfig, tokenizer: PretrainedTokenizer) -> str:
    """Verify or make the cached tokens of a text; the name of their folder."""
    context.activity(f"reading the {split} text")
    return keep_tokens(
        data,
        split,
        tokenizer=tokenizer,
        cache=context.folder.cache,
        planned=context.texts.get(split),
        on_progress=lambda done: context.control.alive(),
        on_distrust=context.announce,
    )
