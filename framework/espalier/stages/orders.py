"""Stage orders: what the controller gives a runner to carry out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StageOrder:
    """One attempt at one stage. It holds names only: workers read everything else from the run's folder.

    Attributes:
        run_folder: the run's folder, absolute, the same on every machine.
        attempt: number of the order, rising over the whole life of the run's folder; only the controller counts.
    """

    run_folder: str
    stage: str
    attempt: int
