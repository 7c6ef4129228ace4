"""Sequences made of tokens: packed blocks of equal length, or one document each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from espalier.data.token_files import Tokens

NO_LABEL = -100


@dataclass(frozen=True)
class Row:
    """One sequence without padding; the first four are [T] int64, labels of a regression float32 with NaN for none.

    Attributes:
        input_ids: the tokens.
        labels: the token that follows; NO_LABEL at the end of a document and of the row.
        positions: position inside the part of its document that is in this row.
        documents: 0 for the row's first document, 1 for its second, and so on.
        weight: factor of the sample's loss on its labels.
        signal_weight: factor of its loss on a teacher's signal; None: the same.
        token_columns: further arrays of a value for each token, [T, ...]; 0 in padding. See `Batch.columns`.
        sample_columns: further arrays of the sample as a whole, [...], of the same shape for all samples.
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64] | NDArray[np.float32]
    positions: NDArray[np.int64]
    documents: NDArray[np.int64]
    weight: float = 1.0
    signal_weight: float | None = None
    token_columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    sample_columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)


class Sequences(Protocol):
    """The rows of a split. A row's index is its sample id, the same in every run."""

    def __len__(self) -> int: ...

    def row(self, index: int) -> Row: ...


@runtime_checkable
class CountedSequences(Sequences, Protocol):
    """Rows of different lengths whose sum is known without reading them; costs are counted by it."""

    @property
    def num_tokens(self) -> int: ...


@dataclass(frozen=True)
class PackedSequences:
    """Documents concatenated and cut into blocks of `sequence_tokens`.

    Attributes:
        tokens: the documents.
        sequence_tokens: length of a block.
        keep_tail: whether the rest makes a last, shorter block.
    """

    tokens: Tokens
    sequence_tokens: int
    keep_tail: bool

    def __len__(self) -> int:
        blocks, tail = divmod(len(self.tokens.ids), self.sequence_tokens)
        return blocks + (self.keep_tail and tail > 1)  # one token alone predicts nothing

    def row(self, index: int) -> Row:
        assert 0 <= index < len(self)
        start = index * self.sequence_tokens
        ids = self.tokens.ids[start : start + self.sequence_tokens]
        offsets = self.tokens.offsets
        first = np.searchsorted(offsets, start, side="right")
        last = np.searchsorted(offsets, start + len(ids), side="left")
        return _row(ids, np.asarray(offsets[first:last]) - start)


@dataclass(frozen=True)
class DocumentSequences:
    """One document a row, cut at `sequence_tokens`; documents of one token, which predict nothing, are left out."""

    tokens: Tokens
    sequence_tokens: int

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.diff(self.tokens.offsets) > 1)

    def __len__(self) -> int:
        return len(self._numbers)

    def row(self, index: int) -> Row:
        assert 0 <= index < len(self)
        number = self._numbers[index]
        start, end = self.tokens.offsets[number : number + 2]
        return _row(self.tokens.ids[start : min(end, start + self.sequence_tokens)], np.empty(0, np.int64))


def _row(ids: NDArray[np.unsignedinteger], starts: NDArray[np.int64]) -> Row:
    """Make a row of `ids`; documents start at its first token and at the indices `starts`."""
    input_ids = ids.astype(np.int64)
    labels = np.append(input_ids[1:], NO_LABEL)
    labels[starts - 1] = NO_LABEL
    documents = np.zeros_like(input_ids)
    documents[starts] = 1
    documents = documents.cumsum()
    positions = np.arange(len(input_ids)) - np.concatenate(([0], starts))[documents]
    return Row(input_ids, labels, positions, documents)
