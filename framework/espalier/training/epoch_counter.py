"""Where epochs end among steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochCounter:
    """Every `num_samples` samples of the stream make an epoch; a step takes `sequences` of them.

    A step may lie across the end of an epoch, which then counts as its end: no step is shorter than others, and
    each sample comes exactly once in each epoch of the stream.
    """

    num_samples: int
    sequences: int

    def ended(self, step: int) -> int:
        """Epochs that are over after `step` updates."""
        return step * self.sequences // self.num_samples

    def ends_until(self, step: int) -> int:
        """Updates among the first `step` with which epochs ended: one that takes more than all samples ends several."""
        return min(step, self.ended(step))

    def ends_at(self, step: int) -> bool:
        """Whether an epoch ends with update number `step`, 1-based."""
        return self.ended(step) > self.ended(step - 1)
