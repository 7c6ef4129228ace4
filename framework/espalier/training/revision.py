"""Samples that are revised while they are learnt from."""

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
        sequences: the training samples under the weights that hold now.
        source: the teacher's answers, where they are known already.
        watch: is shown the answers that training gives, if anybody needs them.
        asked_each_epoch: samples that a model answers for a revision.
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
        """The end of an epoch: its figures, and the file with the samples (rank zero's). Collective."""
        ...

    def tables(self) -> dict[str, Tensor]:
        """All that resuming needs, whole. Collective."""
        ...
