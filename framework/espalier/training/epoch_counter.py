"""Count the epochs that end with each step."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochCounter:
    """Epochs of `num_samples` samples, in steps of `sequences` samples.

    All steps have the same size, so a step may contain the end of an epoch and the start of the next one; the epoch
    then ends with that step. Each sample comes exactly once in each epoch.
    """

    num_samples: int
    sequences: int

    def ended(self, step: int) -> int:
        """Number of epochs that have ended after `step` updates."""
        return step * self.sequences // self.num_samples

    def ends_until(self, step: int) -> int:
        """Number of updates among the first `step` that end an epoch; one larger than the data ends several epochs."""
        return min(step, self.ended(step))

    def ends_at(self, step: int) -> bool:
        """Whether an epoch ends with update number `step`, 1-based."""
        return self.ended(step) > self.ended(step - 1)
