"""The protocol of a source of the teacher's signal."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from espalier.data.batch import Batch
from espalier.objectives.signal import Signal


class SignalSource(Protocol):
    """The source of a teacher's signal: a model, or answers that are known already."""

    def signal(self, batch: Batch) -> AbstractContextManager[Signal]:
        """The signal for a microbatch; to be used inside the context only."""
        ...
