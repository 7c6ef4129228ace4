"""The tokenizer interface that `data` needs; `models/pretrained.py` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Tokenizer(Protocol):
    """Text to token ids, without special tokens.

    Attributes:
        key: hash of everything that the tokens of a document depend on; the cache is keyed by it.
        vocabulary: all ids are below it.
        eos_id: the token that ends a text; None without one.
        begin_ids, end_ids: tokens put before and after each document.
    """

    key: str
    vocabulary: int
    eos_id: int | None
    begin_ids: tuple[int, ...]
    end_ids: tuple[int, ...]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""
        ...


@dataclass(frozen=True)
class Encoded:
    """One sample as tokens, special tokens included.

    Attributes:
        ids: [T].
        segments: [T] which text of a pair each token belongs to; None for models without segments.
    """

    ids: list[int]
    segments: list[int] | None


class LabelledTokenizer(Protocol):
    """Encodes texts and pairs of texts in the published model's format."""

    def encode_samples(self, texts: Sequence[str], pairs: Sequence[str] | None, *, max_tokens: int) -> list[Encoded]:
        """Encode samples with special tokens, cut to `max_tokens`; of a pair the longer text is cut first."""
        ...
