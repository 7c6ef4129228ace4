"""Encode long documents piece by piece, with the ids of the whole document, to bound the tokenizer's memory.

A tokenizer needs 200 bytes and more for each token of a call. Documents up to the length of a piece are encoded whole.
Longer ones are cut only where the tokens on both sides are the same as in the uncut text.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], list[list[int]]]
Ids = NDArray[np.int32]
Item = TypeVar("Item")

MAX_CHARACTERS = 2**18
"""Most characters of a piece, and of the texts of one call without its last one."""
_MAX_TEXTS = 256
_CONTEXT = 256  # characters on each side of a cut that are compared
_SEARCHED = 2**16  # a cut is looked for in so many characters before the end of the longest piece
_MOST_TRIES = 16
_BREAK = re.compile(r"(?<=\S)\s(?=\S)|(?<=[^\w\s])(?=[\w])")


def encoded(texts: Iterable[str], encode: Encode) -> Iterator[Ids]:
    """Yield the ids [T] of each text, in order; texts are read as needed."""
    lengths: deque[int] = deque()  # number of pieces of each text that was read and not yielded

    def cut() -> Iterator[str]:
        for text in texts:
            found = list(pieces(text, encode))
            lengths.append(len(found))
            yield from found

    parts: list[Ids] = []
    for call in calls(cut(), len):
        for ids in encode(call):
            parts.append(np.asarray(ids, dtype=np.int32))
            if len(parts) == lengths[0]:
                lengths.popleft()
                yield np.concatenate(parts)
                parts = []


def pieces(text: str, encode: Callable[[Sequence[str]], list[list[Any]]]) -> Iterator[str]:
    """Cut a text into pieces whose ids, concatenated, are its ids; a blank that tokenizers add is dropped."""
    start = 0
    while len(text) - start > MAX_CHARACTERS:
        end, next_start = _cut(text, start + MAX_CHARACTERS, encode)
        yield text[start:end]
        start = next_start
    yield text[start:]


def calls(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Group items into lists that are short enough for one call of a tokenizer.

    Args:
        size: characters of an item.
    """
    call: list[Item] = []
    num_characters = 0
    for item in items:
        call.append(item)
        num_characters += size(item)
        if len(call) == _MAX_TEXTS or num_characters >= MAX_CHARACTERS:
            yield call
            call, num_characters = [], 0
    if call:
        yield call


def _cut(text: str, limit: int, encode: Callable[[Sequence[str]], list[list[Any]]]) -> tuple[int, int]:
    """The end of a piece and the start of the next one, at `limit` or a little before."""
    for place in itertools.islice(_places(text, limit), _MOST_TRIES):
        left, right = text[place - _CONTEXT : place], text[place : place + _CONTEXT]
        uncut, before, after, bare = encode([left + right, left, right, right[1:]])
        if before + after == uncut:
            return place, place
        if right[0].isspace() and before + bare == uncut:
            return place, place + 1
    return limit, limit  # a single endless word: the cut may cost one token more


def _places(text: str, limit: int) -> Iterator[int]:
    """Candidate positions of a cut: word ends from the last on, then any position."""
    start = limit - min(_SEARCHED, MAX_CHARACTERS // 2)
    breaks = [start + found.start() for found in _BREAK.finditer(text[start:limit])]
    yield from breaks[: -_MOST_TRIES // 2 - 1 : -1]
    yield from range(limit, start, -1)
