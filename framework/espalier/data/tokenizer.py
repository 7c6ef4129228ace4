"""What this room asks of a tokenizer. The real one lives with the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids, without special tokens.

    Attributes:
        key: hash of all that the encoding depends on; tokens cached under one key are never made again.
        vocabulary: every id is below it.
        eos_id: ends a document; None when the tokenizer has no such token.
    """

    key: str
    vocabulary: int
    eos_id: int | None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, in order, nothing added."""
        ...
