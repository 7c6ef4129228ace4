"""The order of training samples, computed as a function of seed and position; no state is kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15
_U64 = np.uint64


def positions_to_indices(positions: NDArray[np.integer], *, num_sequences: int, seed: int) -> NDArray[np.int64]:
    """The sample at each position of the endless stream of epochs.

    Positions [e * num_sequences, (e + 1) * num_sequences) are epoch e: every sample once, in a random order. The order
    is a Feistel network keyed by (seed, epoch) over the next power of four, walked along its cycle until it is back
    among the samples (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002).

    Args:
        positions: [...] from 0.
        num_sequences: samples in the split.
        seed: from 0 to 2**63 - 1.

    Returns:
        [...] indices in [0, num_sequences).
    """
    assert num_sequences > 0 and seed >= 0 and np.all(positions >= 0)
    flat = np.asarray(positions, dtype=_U64).reshape(-1)
    epochs, places = np.divmod(flat, _U64(num_sequences))
    keys = _mix(_mix(epochs + _U64(1)) + _U64(seed))
    half_bits = max(1, -(-(num_sequences - 1).bit_length() // 2))
    indices = _permute(places, keys, half_bits)
    while (outside := np.flatnonzero(indices >= num_sequences)).size:
        indices[outside] = _permute(indices[outside], keys[outside], half_bits)
    return indices.astype(np.int64).reshape(np.shape(positions))


def _permute(values: NDArray[np.uint64], keys: NDArray[np.uint64], half_bits: int) -> NDArray[np.uint64]:
    """A permutation of [0, 4**half_bits) for each key."""
    shift, mask = _U64(half_bits), _U64(2**half_bits - 1)
    left, right = values >> shift, values & mask
    for number in range(_ROUNDS):
        round_key = _U64((number + 1) * _GOLDEN % 2**64)
        left, right = right, left ^ (_mix(right ^ _mix(keys + round_key)) & mask)
    return (left << shift) | right


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood, 2014): every input bit affects every output bit."""
    values = (values ^ (values >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> _U64(27))) * _U64(0x94D049BB133111EB)
    return values ^ (values >> _U64(31))
