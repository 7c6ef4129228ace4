"""Long documents encoded piece by piece, so that memory follows the document and not the tokenizer.

A tokenizer takes 200 bytes and more for each token that it makes in one call. Documents up to the length of a piece are
encoded whole. Longer ones are cut where the tokens on both sides are those of the uncut text: the ids stay the same.
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
"""Of a piece, and of the texts of one call, but for its last one."""
_MAX_TEXTS = 256
_CONTEXT = 256  # characters on each side of a cut that are compared
_SEARCHED = 2**16  # characters before the longest piece's end in which a place for the cut is looked for
_MOST_TRIES = 16
_BREAK = re.compile(r"(?<=\S)\s(?=\S)|(?<=[^\w\s])(?=[\w])")


def encoded(texts: Iterable[str], encode: Encode) -> Iterator[Ids]:
    """[T] ids of each text, in order; texts are read as they are needed."""
    lengths: deque[int] = deque()  # in pieces, of the texts whose ids have not been given yet

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
    """A text, or what its ids can be put together from; the blank at a cut is left out where a tokenizer adds one."""
    start = 0
    while len(text) - start > MAX_CHARACTERS:
        end, next_start = _cut(text, start + MAX_CHARACTERS, encode)
        yield text[start:end]
        start = next_start
    yield text[start:]


def calls(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items in lists of few enough characters for one call of a tokenizer.

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
    """Where a piece ends and the next one starts, at `limit` or a little before."""
    for place in itertools.islice(_places(text, limit), _MOST_TRIES):
        left, right = text[place - _CONTEXT : place], text[place : place + _CONTEXT]
        uncut, before, after, bare = encode([left + right, left, right, right[1:]])
        if before + after == uncut:
            return place, place
        if right[0].isspace() and before + bare == uncut:
            return place, place + 1
    return limit, limit  # one endless word, or no blank for a tokenizer that begins each text with one: a token more


def _places(text: str, limit: int) -> Iterator[int]:
    """Ends of words, the last first; then any place, for a text without words."""
    start = limit - min(_SEARCHED, MAX_CHARACTERS // 2)
    breaks = [start + found.start() for found in _BREAK.finditer(text[start:limit])]
    yield from breaks[: -_MOST_TRIES // 2 - 1 : -1]
    yield from range(limit, start, -1)
