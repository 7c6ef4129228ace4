"""The microbatches of each rank and step, as tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from espalier.config.training import BatchConfig
from espalier.data.batch import Batch
from espalier.data.order import positions_to_indices
from espalier.data.packing import NO_LABEL, Row, Sequences


def window(sequences: Sequences, step: int, *, seed: int, batch: BatchConfig, rank: int, num_ranks: int) -> list[Batch]:
    """Make the microbatches of one rank for one step.

    Step s consists of positions [s * S, (s + 1) * S) of the order. Neither the number of ranks nor the size of
    a microbatch changes which samples these are, nor the number of ranks which of them share a microbatch.

    Args:
        sequences: the training split.
        step: counts from 0 over the whole stage, or over all that share a schedule.
        seed: of the order.
        batch: S sequences in all, and how many in one microbatch.
        rank: this rank's number.
        num_ranks: ranks that share the step.

    Returns:
        S / (microbatch_sequences * num_ranks) batches: microbatches rank, rank + num_ranks, ... of the step.
    """
    assert batch.sequences % (batch.microbatch_sequences * num_ranks) == 0, (
        "the job refuses steps that do not come out even"
    )
    positions = np.arange(step * batch.sequences, (step + 1) * batch.sequences)
    indices = positions_to_indices(positions, num_sequences=len(sequences), seed=seed)
    return [make_batch(sequences, chunk) for chunk in indices.reshape(-1, batch.microbatch_sequences)[rank::num_ranks]]


def spread(
    sequences: Sequences, num_samples: int, *, rank: int, num_ranks: int, microbatch_sequences: int
) -> Iterator[Batch]:
    """Yield this rank's batches of `num_samples` sequences spread evenly over the split; of all where it has fewer.

    Ranks without a microbatch get blank ones, see `in_order`.
    """
    num_samples = min(num_samples, len(sequences))
    indices = np.arange(num_samples) * len(sequences) // num_samples
    return _dealt(sequences, indices, rank=rank, num_ranks=num_ranks, microbatch_sequences=microbatch_sequences)


def in_order(
    sequences: Sequences, num_sequences: int | None, *, rank: int, num_ranks: int, microbatch_sequences: int
) -> Iterator[Batch]:
    """Yield this rank's batches of the first `num_sequences` sequences (None, or more than there are: all).

    Over all ranks every sequence comes once, in microbatches that do not depend on the number of ranks. Every rank gets
    the same number of batches, because a forward pass at zero_level parameters is collective. Where microbatches run
    out, a rank gets a blank one, which adds nothing to a loss (labels NO_LABEL, documents and sample ids -1, weights
    0).
    """
    num_sequences = len(sequences) if num_sequences is None else min(num_sequences, len(sequences))
    indices = np.arange(num_sequences)
    return _dealt(sequences, indices, rank=rank, num_ranks=num_ranks, microbatch_sequences=microbatch_sequences)


def make_batch(sequences: Sequences, indices: NDArray[np.int64]) -> Batch:
    """Make a batch of the sequences `indices`, padded on the right to the longest."""
    rows = [sequences.row(int(index)) for index in indices]
    num_tokens = max(len(row.input_ids) for row in rows)
    no_label = NO_LABEL if rows[0].labels.dtype == np.int64 else math.nan
    plain = all(len(row.input_ids) == num_tokens and row.documents[-1] == 0 for row in rows)
    return Batch(
        input_ids=_padded([row.input_ids for row in rows], num_tokens, 0),
        labels=_padded([row.labels for row in rows], num_tokens, no_label),
        positions=_padded([row.positions for row in rows], num_tokens, 0),
        documents=None if plain else _padded([row.documents for row in rows], num_tokens, -1),
        sample_ids=torch.from_numpy(indices.astype(np.int64)),
        sample_weights=torch.tensor([row.weight for row in rows], dtype=torch.float32),
        signal_weights=None
        if rows[0].signal_weight is None
        else torch.tensor([row.signal_weight for row in rows], dtype=torch.float32),
        columns=_columns(rows, num_tokens),
    )


def _dealt(
    sequences: Sequences, indices: NDArray[np.int64], *, rank: int, num_ranks: int, microbatch_sequences: int
) -> Iterator[Batch]:
    num_microbatches = -(-len(indices) // microbatch_sequences)
    num_rounds = -(-num_microbatches // num_ranks)
    for number in range(rank, num_rounds * num_ranks, num_ranks):
        chunk = indices[number * microbatch_sequences : (number + 1) * microbatch_sequences]
        yield make_batch(sequences, chunk) if len(chunk) else _blank(sequences)


def _blank(sequences: Sequences) -> Batch:
    """A batch that adds nothing to a loss, with columns of zeros in the shapes of the first sample's."""
    shape = (1, 2)  # with one token models would take it for a step of generation
    first = sequences.row(0)
    short = replace(first, token_columns={name: values[:2] for name, values in first.token_columns.items()})
    zeros = torch.zeros(shape, dtype=torch.int64)
    nothing = torch.full(shape, -1)
    return Batch(
        input_ids=zeros,
        labels=torch.full(shape, NO_LABEL),
        positions=torch.arange(2)[None],
        documents=nothing,
        sample_ids=nothing[:, 0],
        sample_weights=torch.zeros(1),
        columns={name: torch.zeros_like(tensor) for name, tensor in _columns([short], 2).items()},
    )


def _columns(rows: list[Row], num_tokens: int) -> dict[str, torch.Tensor]:
    """[B, num_tokens, ...] of the columns of tokens, [B, ...] of those of samples."""
    by_token = {
        name: _padded([row.token_columns[name] for row in rows], num_tokens, 0) for name in rows[0].token_columns
    }
    by_sample = {
        name: torch.from_numpy(np.stack([row.sample_columns[name] for row in rows])) for name in rows[0].sample_columns
    }
    return by_token | by_sample


def _padded(arrays: list[NDArray[Any]], num_tokens: int, padding: float) -> torch.Tensor:
    table = np.full((len(arrays), num_tokens, *arrays[0].shape[1:]), padding, dtype=arrays[0].dtype)
    for line, values in zip(table, arrays, strict=True):
        line[: len(values)] = values
    return torch.from_numpy(table)
