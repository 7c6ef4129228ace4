"""What the controller asks of a runner, and how a runner says that it could not be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FailureCause = Literal["worker_lost", "node_lost", "out_of_memory", "error", "stopped"]


@dataclass(frozen=True)
class StageOrder:
    """One try at one stage. Names only: whoever carries it out reads everything else from the run's folder.

    Attributes:
        run_folder: the run's folder, absolute, the same on every machine.
        attempt: rises over the whole life of the run folder; the controller alone counts.
    """

    run_folder: str
    stage: str
    attempt: int


class StageFailed(Exception):
    """A stage ended without a result.

    Attributes:
        cause: what happened, as far as it can be told apart.
        message: one sentence for people: what failed, where, what to do.
        detail: the traceback, or whatever else helps; may be empty.
    """

    def __init__(self, cause: FailureCause, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.detail = detail

    @property
    def retryable(self) -> bool:
        """Whether the same order may succeed when given again."""
        return self.cause in ("worker_lost", "node_lost")

    def __reduce__(self) -> tuple[type, tuple[FailureCause, str, str]]:  # crosses Ray by pickling
        return StageFailed, (self.cause, self.message, self.detail)
