"""The one door of this room: from the job's data settings to numbered sequences."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import xxhash

from espalier.config.data import DataConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.data.fingerprint import Split, text_fingerprint
from espalier.data.packing import DocumentSequences, PackedSequences, Sequences
from espalier.data.split import split_documents
from espalier.data.tokenizer import Tokenizer
from espalier.data.tokens import Tokens, open_tokens, write_tokens

_FORMAT = 1


def open_sequences(
    data: DataConfig,
    split: Split,
    *,
    tokenizer: Tokenizer,
    cache: Path,
    on_progress: Callable[[int], None] | None = None,
) -> Sequences:
    """The sequences of one split, tokenised on first use and mapped from `cache` ever after.

    Many processes may call it at once, but each that finds no tokens makes them: let one open a split first.

    Args:
        data: corpora, length and layout of sequences.
        split: in `valid` the last block of layout packed is kept though it is short.
        tokenizer: whose ids the sequences hold.
        cache: a folder that only this function writes to.
        on_progress: called now and then with the number of documents tokenised.

    Raises:
        RefusedInput: text that cannot be read, or too little of it for one sequence.
    """
    words = [_FORMAT, text_fingerprint(data, split), tokenizer.key, tokenizer.vocabulary, tokenizer.eos_id]
    folder = cache / xxhash.xxh3_128_hexdigest(repr(words).encode())
    tokens = open_tokens(folder)
    if tokens is None:
        texts = split_documents(data, split)
        write_tokens(texts, tokenizer, folder=folder, setting=f"data.{split}", on_progress=on_progress)
        tokens = open_tokens(folder)
        assert tokens is not None
    sequences = _cut(data, split, tokens)
    if len(sequences) == 0:
        allowed = f"at most the {len(tokens.ids)} tokens of `data.{split}`; or give more text"
        raise RefusedInput([Fault("data.sequence_tokens", data.sequence_tokens, allowed)])
    return sequences


def _cut(data: DataConfig, split: Split, tokens: Tokens) -> Sequences:
    if data.layout == "documents":
        return DocumentSequences(tokens, data.sequence_tokens)
    return PackedSequences(tokens, data.sequence_tokens, keep_tail=split == "valid")
