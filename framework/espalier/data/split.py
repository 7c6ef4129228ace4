"""Split documents into training and validation; equal documents are never in both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import xxhash

from espalier.config.data import DataConfig, HeldOutConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.data.corpus import documents
from espalier.data.fingerprint import Split

_HASHES = 2**64


def split_documents(data: DataConfig, split: Split) -> Iterator[str]:
    """Yield the documents of one split, in the order of the corpus.

    With `valid.fraction` a document is for validation when the hash of its text is below that share of the hash range.
    With a separate corpus for `valid`, training documents that are also in it are left out.

    Raises:
        RefusedInput: what `documents` refuses; fewer than two different documents to split.
    """
    if isinstance(data.valid, HeldOutConfig):
        is_whole = data.train.source == "text" and data.train.cut is None
        remedy = "set `data.train.cut`, as each file is one document, or " if is_whole else ""
        border = _border((_hash(text) for text in documents(data.train)), data.valid.fraction, remedy=remedy)
        return (text for text in documents(data.train) if (_hash(text) < border) == (split == "valid"))
    if split == "valid":
        return documents(data.valid, setting="data.valid")
    held_out = {_hash(text) for text in documents(data.valid, setting="data.valid")}
    return (text for text in documents(data.train) if _hash(text) not in held_out)


def _border(hashes: Iterable[int], fraction: float, *, remedy: str) -> int:
    """The hash below which documents are for validation, adjusted so that both splits have a document.

    Reads only until both have one: about 1/fraction documents of a large corpus.
    """
    border = int(fraction * _HASHES)
    lowest, highest = _HASHES, -1
    for value in hashes:
        lowest, highest = min(lowest, value), max(highest, value)
        if lowest < border <= highest:
            return border
    if lowest >= highest:  # no document, or all equal
        allowed = f"two different documents or more in `data.train`; {remedy}name a corpus of its own in `data.valid`"
        raise RefusedInput([Fault("data.valid.fraction", fraction, allowed)])
    return lowest + 1 if lowest >= border else highest


def _hash(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode())
