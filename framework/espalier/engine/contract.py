"""What the training loop knows of a sharded model that steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from espalier.checkpoint.fragments import Fragment, Slot
from espalier.data.batch import Batch
from espalier.models.network import HeadUse
from espalier.objectives.signal import Signal

T = TypeVar("T")


class Values(Protocol):
    """Where an engine's values come from: a committed state, `StateReader`."""

    def tensor(self, slot: Slot, name: str) -> Tensor:
        """A whole tensor in its parameter's shape."""
        ...

    def read(self, slot: Slot, name: str, *, offset: int, length: int) -> Tensor:
        """[length] values of the flattened tensor from `offset` on."""
        ...


class Engine(Protocol):
    """A student under one ZeRO level. Every method is collective: all workers call it in the same order."""

    def accumulate(self, batch: Batch, signal: Signal | None, *, scales: Sequence[float]) -> Tensor:
        """Forward and backward of one microbatch; the gradient stays local or sharded until `update`.

        Args:
            scales: factor of each objective's sum in the loss of the whole window: its weight over the global
                count of the window. The sum over microbatches and workers is then the loss itself.

        Returns:
            [objectives] float64 local sums, without scales.
        """
        ...

    def evaluate(self, batch: Batch, use: HeadUse[T] | None = None) -> T | Tensor:
        """The forward of `Network` as it is now, without dropout and gradients; between updates."""
        ...

    def run_layers(self, order: Sequence[int] | None) -> None:
        """Let the next microbatches run these layers in this order, some more than once; None for each once."""
        ...

    def update(self, lr: float) -> float:
        """Clip, take one AdamW step at this learning rate, clear gradients; the global norm before clipping.

        Norm and step are over what is trained. A parameter that took part in no microbatch of any worker, such as an
        expert that nothing was routed to, has a gradient of zero.
        """
        ...

    def fragments(self) -> Iterator[Fragment]:
        """This worker's part of the masters (float32) and AdamW's moments of what is trained: live, where they are.

        To be copied before the next update.
        """
        ...

    def restore(self, reader: Values, *, steps_taken: int) -> None:
        """Take what is trained, and moments where the state has them, from any committed state of the same shapes.

        Args:
            steps_taken: updates that the moments have seen (AdamW's bias correction); 0 for a fresh optimizer,
                whose moments are then not read.
        """
        ...

    def close(self) -> None:
        """Free every byte. The engine is of no use afterwards."""
        ...
