"""Read preference pairs, and make a row of each: the prompt with its chosen, then with its rejected answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from espalier.config.faults import Fault, RefusedInput
from espalier.data.fingerprint import Split
from espalier.data.found import FoundData
from espalier.data.packing import NO_LABEL, Row
from espalier.data.rows import Wanted, read_rows
from espalier.data.tokenizer import Tokenizer
from espalier.worker.context import StageContext
from espalier_preference.format import PairsConfig, PreferenceConfig


class Pair(NamedTuple):
    """A prompt, the answer that was preferred and the other one: texts or token ids."""

    prompt: Any
    chosen: Any
    rejected: Any


def look(data: PreferenceConfig, *, seed: int, path: str) -> FoundData:
    """See `DataFormat.look`."""
    train, valid = read_pairs(data.train, f"{path}.train"), read_pairs(data.valid, f"{path}.valid")
    same = sum(pair.chosen == pair.rejected for pair in train)
    remarks = [f"{path}: {len(train)} training and {len(valid)} validation pairs"]
    remarks += [f"warning: {same} training pairs have two equal answers"] if same else []
    return FoundData(data, num_samples=len(train), remarks=tuple(remarks))


def read_pairs(table: PairsConfig, setting: str) -> list[Pair]:
    """Read the pairs of one split."""
    wanted = Wanted(setting, {use: getattr(table, use) for use in Pair._fields})
    pairs = [Pair(*(row.text(use, setting=setting) for use in Pair._fields)) for row in read_rows(table, wanted)]
    if not pairs:
        raise RefusedInput([Fault(setting, None, "one pair or more", given="has no row")])
    return pairs


def sequences(context: StageContext[Any], split: Split) -> PairSequences:
    """See `DataFormat.sequences`."""
    data, tokenizer = context.data, context.tokenizer()
    assert isinstance(data, PreferenceConfig)
    pairs = read_pairs(data.train if split == "train" else data.valid, f"data.{split}")
    return PairSequences([encode(pair, tokenizer) for pair in pairs], data.sequence_tokens // 2)


def encode(pair: Pair, tokenizer: Tokenizer) -> Pair:
    """The token ids of a pair, the prompt between begin tokens and answers, which carry the end tokens."""
    prompt, *answers = tokenizer.encode(pair)
    return Pair([*tokenizer.begin_ids, *prompt], *([*answer, *tokenizer.end_ids] for answer in answers))


@dataclass(frozen=True)
class PairSequences:
    """One row for each pair: two documents, which cannot see each other.

    The column `side` [T] is 1 at tokens of the chosen answer's document and -1 at those of the other.
    """

    pairs: Sequence[Pair]
    most_tokens: int

    @property
    def num_tokens(self) -> int:
        return sum(len(self.row(index).input_ids) for index in range(len(self)))

    def __len__(self) -> int:
        return len(self.pairs)

    def row(self, index: int) -> Row:
        prompt, *answers = self.pairs[index]
        shown = prompt[-(self.most_tokens // 2) :]
        ids = [np.array([*shown, *answer][: self.most_tokens]) for answer in answers]
        lengths = [len(one) for one in ids]
        return Row(
            input_ids=np.concatenate(ids),
            labels=np.concatenate([_labels(one, len(shown)) for one in ids]),
            positions=np.concatenate([np.arange(length) for length in lengths]),
            documents=np.repeat([0, 1], lengths),
            token_columns={"side": np.repeat([1, -1], lengths)},
        )


def _labels(ids: NDArray[np.int64], prompt_tokens: int) -> NDArray[np.int64]:
    """The token that follows, where it is part of the answer."""
    labels = np.append(ids[1:], NO_LABEL)
    labels[: max(0, prompt_tokens - 1)] = NO_LABEL
    return labels
