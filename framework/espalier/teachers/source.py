"""Where a teacher's signal comes from; the student does not know which."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from espalier.data.batch import Batch
from espalier.objectives.signal import Signal


class SignalSource(Protocol):
    """A model of its own, or answers that are known already."""

    def signal(self, batch: Batch) -> AbstractContextManager[Signal]:
        """What it says of a microbatch; to be used inside the context only."""
        ...
