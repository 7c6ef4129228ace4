"""Cut a text file into documents, by paragraphs or by length (setting `cut`)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

_BLANK_LINES = re.compile(r"(?:\r?\n[^\S\n]*){2,}")
_BREAKS = (re.compile(r"\n\s*"), re.compile(r"\s+"))  # a line's end, else a word's


def cut_text(text: str, by: Literal["paragraphs"] | int) -> Iterator[str]:
    """Yield the documents of a text: its paragraphs, or parts of at most `by` characters.

    A part ends at the last line end in its second half; without one, at the last word end; without one, anywhere. The
    parts together are the whole text.
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
