"""The tokenizer interface that `data` needs; `models/pretrained.py` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids, without special tokens.

    Attributes:
        key: hash of all that the tokens of a document depend on; those cached under one key are never made again.
        vocabulary: every id is below it.
        eos_id: ends a text; None when the tokenizer has no such token.
        begin_ids, end_ids: stand before and after each document.
    """

    key: str
    vocabulary: int
    eos_id: int | None
    begin_ids: tuple[int, ...]
    end_ids: tuple[int, ...]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, in order, nothing added."""
        ...


@dataclass(frozen=True)
class Encoded:
    """One sample as tokens, the tokenizer's special ones included.

    Attributes:
        ids: [T].
        segments: [T] which text of a pair each belongs to; None where the model knows no such thing.
    """

    ids: list[int]
    segments: list[int] | None


class LabelledTokenizer(Protocol):
    """Texts and pairs of texts, as the model's published form takes them."""

    def encode_samples(self, texts: Sequence[str], pairs: Sequence[str] | None, *, max_tokens: int) -> list[Encoded]:
        """Each sample with special tokens; of a pair the longer text is cut first."""
        ...
