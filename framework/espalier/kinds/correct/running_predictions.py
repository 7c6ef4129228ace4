"""Running predictions collected during training (dropout on), as a cheap stand-in for a prediction pass."""

from __future__ import annotations

import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.distributed.world import World

# Names of the tables in the checkpoints of all versions.
_SUMS, _COUNTS, _NEWEST = "seen_sums", "seen_counts", "seen_known"


class RunningPredictions:
    """The newest prediction on each of N samples.

    Each worker collects those of its own microbatches; `predictions` sums them over workers. A sample that was trained
    on twice in between, as can happen around the end of an epoch, has the mean of both.
    """

    def __init__(self, num_samples: int, width: int, world: World, tables: dict[str, Tensor]) -> None:
        self._world = world
        restored = tables and world.is_rank_zero  # a checkpoint holds the sums over workers
        self._sums = tables[_SUMS].clone() if restored else torch.zeros(num_samples, width)
        self._counts = tables[_COUNTS].clone() if restored else torch.zeros(num_samples)
        self._newest = tables[_NEWEST].clone() if tables else torch.zeros(num_samples, width)

    def note(self, batch: Batch, logits: Tensor) -> None:
        """Add the logits [B, C] of a microbatch."""
        ids = batch.sample_ids.cpu()
        self._sums.index_add_(0, ids, logits.float().cpu())
        self._counts.index_add_(0, ids, torch.ones(len(ids)))

    def predictions(self) -> Tensor:
        """[N, C] the newest logits, of all workers; a new collection begins. Collective."""
        sums, counts = self._world.sum(self._sums).cpu(), self._world.sum(self._counts).cpu()[:, None]
        self._newest = torch.where(counts > 0, sums / counts.clamp_min(1.0), self._newest)
        self._sums.zero_()
        self._counts.zero_()
        return self._newest

    def tables(self) -> dict[str, Tensor]:
        """What resuming needs, equal on all workers. Collective."""
        sums, counts = self._world.sum(self._sums).cpu(), self._world.sum(self._counts).cpu()
        return {_SUMS: sums, _COUNTS: counts, _NEWEST: self._newest}
