"""Compare two tokenizers by what they do to text, not by the bytes of their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from espalier.data.tokenizer import Encoded

PROBES = (
    "The quick brown fox jumps over the lazy dog; it's 3.14159 o'clock, isn't it?",
    "  two spaces,\ta tab\nand lines\r\n\n    indented,   then  trailing   ",
    "def f(x_1: int) -> str:\n    return f'{x_1!r:>08}'  # 0xFF, 1_000_000, http://a.b/c?d=e&f=%20",
    "Ærøskøbing, Çeşme, naïve façade, İstanbul, straße, œuvre, Ångström",
    "Комиссия рассмотрела доклад. Το γρήγορο αλεπού. השועל המהיר. سريع كالثعلب",  # noqa: RUF001
    "敏捷的棕色狐狸跳过了懒狗。東京は夜の七時。빠른 갈색 여우. हिन्दी में लिखा हुआ। ภาษาไทยไม่มีช่องว่าง",
    "e\u0301 and \u00e9, \ufb01 and fi, \u2460 and 1, \uff21 and A, a\u200bb, \u00a0, \ufeff",
    "🦊👩‍👩‍👧‍👦🇪🇺 ∑∫√≠ ½ ™ \U0001d54f \u0000\u0007",
)
"""Small and fixed: many scripts, spaces, digits, code, forms that normalisers fold, and bytes that few vocabularies
have a word for."""


Difference = Literal["words", "cuts", "samples"]


class ComparedTokenizer(Protocol):
    """What is asked of a tokenizer that is compared with another."""

    def words(self) -> Mapping[str, int]: ...
    def special_words(self) -> Sequence[str]: ...
    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...
    def encode_samples(
        self, texts: Sequence[str], pairs: Sequence[str] | None, *, max_tokens: int
    ) -> list[Encoded]: ...


def difference(own: ComparedTokenizer, other: ComparedTokenizer) -> Difference | None:
    """The most serious difference between two tokenizers; None where each reads what the other writes.

    `words`: the vocabulary or its ids; `cuts`: the tokens that a text is cut into; `samples`: the special tokens that
    are put around a text or a pair. Which token ends a text is no difference here: its id means the same to both.
    """
    if own.words() != other.words():
        return "words"
    named = sorted({*own.special_words(), *other.special_words()})
    texts = [*PROBES, *(f"{PROBES[0]} {word}{word} {PROBES[1]}" for word in named)]
    if own.encode(texts) != other.encode(texts):
        return "cuts"
    for pairs in (None, PROBES[3:4]):
        if own.encode_samples(PROBES[:1], pairs, max_tokens=512) != other.encode_samples(
            PROBES[:1], pairs, max_tokens=512
        ):
            return "samples"
    return None
