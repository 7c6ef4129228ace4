"""What the controller asks of a runner, and how a runner says that it could not be done."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

FailureCause = Literal[
    "worker_lost",
    "node_lost",
    "hang",
    "out_of_memory",
    "error",
    "lasting_error",
    "unstable",
    "storage",
    "refused",
    "preempted",
    "stopped",
]
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk answers that has no room."""
TAKES_NO_MORE = (*FULL, errno.EROFS)
"""What storage answers, once it has taken something, that takes no more: it may have become read-only."""

_PASSING: tuple[FailureCause, ...] = ("worker_lost", "node_lost", "hang", "preempted")


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
        signature: what was wrong without where it was seen; equal when the same thing happens again.
        silent_seconds: of a hang: how long nothing had happened when it was noticed.
    """

    def __init__(
        self, cause: FailureCause, message: str, detail: str = "", signature: str = "", silent_seconds: float = 0.0
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.detail = detail
        self.signature = signature or message
        self.silent_seconds = silent_seconds

    def may_pass(self, before: StageFailed | None) -> bool:
        """Whether the same order may succeed when given again, after this failure and the one before it."""
        if self.cause == "out_of_memory":
            return before is None or before.cause != self.cause
        if self.cause == "error":
            return before is None or before.signature != self.signature
        return self.cause in _PASSING

    def __reduce__(self) -> tuple[type, tuple[FailureCause, str, str, str, float]]:  # crosses Ray by pickling
        return StageFailed, (self.cause, self.message, self.detail, self.signature, self.silent_seconds)
