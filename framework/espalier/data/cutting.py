"""A text file as several documents, where its owner asks for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

_BLANK_LINES = re.compile(r"(?:\r?\n[^\S\n]*){2,}")
_BREAKS = (re.compile(r"\n\s*"), re.compile(r"\s+"))  # a line's end, else a word's


def cut_text(text: str, by: Literal["paragraphs"] | int) -> Iterator[str]:
    """The documents of a text: what stands between blank lines, or parts of at most so many characters.

    Parts end with a line in their second half, where there is none with a word, else anywhere; together they are the
    whole text.
    """
    if by == "paragraphs":
        yield from _BLANK_LINES.split(text)
        return
    start = 0
    while len(text) - start > by:
        end = _end(text, start, by)
        yield text[start:end]
        start = end
    yield text[start:]


def _end(text: str, start: int, length: int) -> int:
    half, limit = start + (length + 1) // 2, start + length
    for pattern in _BREAKS:
        found = [match.end() for match in pattern.finditer(text, half, limit)]
        if found:
            return found[-1]
    return limit
