"""The protocol of samples whose weights and signal are revised at the end of each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from espalier.data.batch import Batch
from espalier.data.packing import Sequences
from espalier.engine.contract import Engine
from espalier.teachers.source import SignalSource


class SampleRevision(Protocol):
    """Samples whose weights and signal are revised at the end of each epoch.

    Attributes:
        sequences: the training samples with their current weights.
        source: the signal, if the teacher's predictions are known already; else None.
        watch: called with each microbatch and its logits during training; None if they are not needed.
        asked_each_epoch: number of samples predicted for a revision, for the cost.
    """

    @property
    def sequences(self) -> Sequences: ...

    @property
    def source(self) -> SignalSource | None: ...

    @property
    def watch(self) -> Callable[[Batch, Tensor], None] | None: ...

    @property
    def asked_each_epoch(self) -> int: ...

    def revise(self, epoch: int, engine: Engine, source: SignalSource | None) -> tuple[dict[str, float], str | None]:
        """Revise at the end of an epoch; returns figures, and the path of the samples' file (rank zero). Collective."""
        ...

    def tables(self) -> dict[str, Tensor]:
        """What resuming needs, equal on all workers. Collective."""
        ...
