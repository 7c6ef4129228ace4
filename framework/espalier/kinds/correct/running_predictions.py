"""Running predictions collected during training (dropout on), as a cheap stand-in for a prediction pass."""

from __future__ import annotations

import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.distributed.world import World


class RunningPredictions:
    """The newest answer on each sample.

    A worker knows those of its own samples; they meet when they are wanted. A sample that came twice since then, as
    one may around the end of an epoch, has the mean of both.
    """

    def __init__(self, num_samples: int, width: int, world: World, tables: dict[str, Tensor]) -> None:
        self._world = world
        first = world.is_rank_zero  # what a checkpoint holds is the sum over workers
        self._sums = tables["seen_sums"].clone() if tables and first else torch.zeros(num_samples, width)
        self._counts = tables["seen_counts"].clone() if tables and first else torch.zeros(num_samples)
        self._known = tables["seen_known"].clone() if tables else torch.zeros(num_samples, width)

    def note(self, batch: Batch, logits: Tensor) -> None:
        """Take in a microbatch's answers [B, C]."""
        ids = batch.sample_ids.cpu()
        self._sums.index_add_(0, ids, logits.float().cpu())
        self._counts.index_add_(0, ids, torch.ones(len(ids)))

    def answers(self) -> Tensor:
        """[N, C] the newest ones, of all workers. Collective."""
        sums, counts = self._world.sum(self._sums).cpu(), self._world.sum(self._counts).cpu()[:, None]
        self._known = torch.where(counts > 0, sums / counts.clamp_min(1.0), self._known)
        self._sums.zero_()
        self._counts.zero_()
        return self._known

    def tables(self) -> dict[str, Tensor]:
        """What resuming needs. Collective."""
        sums, counts = self._world.sum(self._sums).cpu(), self._world.sum(self._counts).cpu()
        return {"seen_sums": sums, "seen_counts": counts, "seen_known": self._known}
