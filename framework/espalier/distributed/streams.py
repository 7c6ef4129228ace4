"""Counter-based random numbers: each seed is a hash of the run's seed, a purpose and counters, so no state is kept."""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for one random draw.

    The same (seed, purpose, counters) gives the same number on every worker, in every attempt and on every number
    of workers; a rank belongs in `counters` only where ranks shall differ.
    """
    text = ":".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def seed_torch(seed: int, purpose: str, *counters: int) -> None:
    """Seed torch's generators (CPU and GPU), for draws inside modules such as dropout."""
    torch.manual_seed(stream_seed(seed, purpose, *counters))
