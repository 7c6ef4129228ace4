"""A tokenizer for these tests: one token a letter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LetterTokenizer:
    """a is 1, b is 2, and so on; 0 ends a document."""

    vocabulary: int = 29
    eos_id: int | None = 0
    key: str = "letters"
    begin_ids: tuple[int, ...] = ()

    @property
    def end_ids(self) -> tuple[int, ...]:
        return () if self.eos_id is None else (self.eos_id,)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [[ord(letter) - ord("a") + 1 for letter in text] for text in texts]


class Untouchable(LetterTokenizer):
    """For proving that nothing is tokenised again."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        raise AssertionError("tokenised a second time")
