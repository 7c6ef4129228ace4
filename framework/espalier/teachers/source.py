"""The protocol of a source of the teacher's signal."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from espalier.data.batch import Batch
from espalier.objectives.signal import Signal


class SignalSource(Protocol):
    """A teacher model, or predictions that are known already; the student does not see the difference."""

    def signal(self, batch: Batch) -> AbstractContextManager[Signal]:
        """The teacher's signal for a microbatch; valid inside the context only."""
        ...
