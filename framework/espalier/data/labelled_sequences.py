"""Labelled samples as sequences: one token has the target, the others have no label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from espalier.data.examples import Examples
from espalier.data.packing import NO_LABEL, Row, Sequences
from espalier.data.pieces import calls
from espalier.data.tokenizer import Encoded, LabelledTokenizer

_LONG_CHARACTERS = 2**16

ReadAt = Literal["first", "last"]
"""The token whose hidden state a model's head reads: an encoder's first, a decoder's last that is no padding."""


def read_place(ids: NDArray[np.int64], read_at: ReadAt, pad_id: int | None) -> int:
    """The index of the token whose hidden state the stock classifier reads.

    Stock decoders take the last token that is not `pad_token_id`, also in rows without padding: if the tokenizer ends
    texts with that token, they read the one before. Index 0 if there is no other token.
    """
    if read_at == "first":
        return 0
    words = np.flatnonzero(ids != pad_id) if pad_id is not None else np.arange(len(ids))
    return int(words[-1]) if len(words) else 0


@dataclass(frozen=True)
class LabelledSequences:
    """One unpadded row for each sample of `Examples`, with the same ids.

    Attributes:
        pad_id: `pad_token_id` of the model's configuration.
    """

    examples: Examples
    encoded: Sequence[Encoded]
    read_at: ReadAt
    pad_id: int | None = None

    @staticmethod
    def of(
        examples: Examples,
        tokenizer: LabelledTokenizer,
        *,
        max_tokens: int,
        read_at: ReadAt,
        pad_id: int | None = None,
    ) -> LabelledSequences:
        encoded = list(_encoded(examples, tokenizer, max_tokens=max_tokens))
        return LabelledSequences(examples, encoded, read_at, pad_id)

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples, without padding."""
        return sum(len(one.ids) for one in self.encoded)

    def __len__(self) -> int:
        return len(self.encoded)

    def row(self, index: int) -> Row:
        one = self.encoded[index]
        ids = np.array(one.ids, dtype=np.int64)
        segments = {} if one.segments is None else {"token_type_ids": np.array(one.segments, dtype=np.int64)}
        return Row(
            input_ids=ids,
            labels=self._labels(index, ids),
            positions=np.arange(len(ids)),
            documents=np.zeros(len(ids), dtype=np.int64),
            weight=float(self.examples.weights[index]),
            token_columns=segments,
        )

    def _labels(self, index: int, ids: NDArray[np.int64]) -> NDArray[np.int64] | NDArray[np.float32]:
        target = self.examples.targets[index]
        is_class = self.examples.targets.dtype == np.int64
        labels = np.full(len(ids), NO_LABEL) if is_class else np.full(len(ids), np.nan, dtype=np.float32)
        labels[read_place(ids, self.read_at, self.pad_id)] = target
        return labels


def _encoded(examples: Examples, tokenizer: LabelledTokenizer, *, max_tokens: int) -> Iterator[Encoded]:
    """Yield every sample as tokens; long texts are shortened first, as tokenizers encode everything before they cut."""

    def beginnings(texts: Iterable[str]) -> Iterator[str]:
        return (_beginning(text, tokenizer, max_tokens=max_tokens) for text in texts)

    if examples.pairs is None:
        for call in calls(beginnings(examples.texts), len):
            yield from tokenizer.encode_samples(call, None, max_tokens=max_tokens)
        return
    pairs = zip(beginnings(examples.texts), beginnings(examples.pairs), strict=True)
    for both in calls(pairs, lambda pair: len(pair[0]) + len(pair[1])):
        first, second = zip(*both, strict=True)
        yield from tokenizer.encode_samples(first, second, max_tokens=max_tokens)


def _beginning(text: str, tokenizer: LabelledTokenizer, *, max_tokens: int) -> str:
    """A beginning of the text that is surely longer than `max_tokens` tokens, or all of it."""
    length, enough = max(_LONG_CHARACTERS, 64 * max_tokens), max_tokens + 16
    while len(text) > length:
        (found,) = tokenizer.encode_samples([text[:length]], None, max_tokens=enough)
        if len(found.ids) >= enough:
            return text[:length]
        length *= 8
    return text


@dataclass(frozen=True)
class Part:
    """A subset of other sequences, numbered from 0."""

    whole: Sequences
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def row(self, index: int) -> Row:
        return self.whole.row(int(self.places[index]))


@dataclass
class Reweighted:
    """Other sequences, the weight of each multiplied by a factor.

    Attributes:
        label_weights: [N] further factor of each sample's loss on labels.
        signal_weights: [N] further factor of its loss on a teacher's signal.
    """

    whole: Sequences
    label_weights: NDArray[np.float64]
    signal_weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.whole)

    def row(self, index: int) -> Row:
        row = self.whole.row(index)
        label, signal = float(self.label_weights[index]), float(self.signal_weights[index])
        return replace(row, weight=row.weight * label, signal_weight=row.weight * signal)
