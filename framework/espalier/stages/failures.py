"""Failed stages: what happened, and whether the same order may succeed when it is given again."""

from __future__ import annotations

import errno
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
    "resized",
    "stopped",
]
FULL = (errno.ENOSPC, errno.EDQUOT)
"""errno values of a full disk or an exhausted quota."""
TAKES_NO_MORE = (*FULL, errno.EROFS)
"""errno values of a storage that no longer accepts writes; after an error it may have been remounted read-only."""

_PASSING: tuple[FailureCause, ...] = ("worker_lost", "node_lost", "hang", "preempted", "resized")


class StageFailed(Exception):
    """A stage ended without a result.

    Attributes:
        cause: the kind of failure.
        message: one sentence for the user: what failed, where, what to do.
        detail: a traceback or other text that helps; may be empty.
        signature: the error without place and rank, to recognise the same error in the next attempt.
        silent_seconds: for a hang: seconds without progress when it was detected.
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
        """Whether another attempt may succeed, given this failure and the one before it."""
        if self.cause == "out_of_memory":
            return before is None or before.cause != self.cause
        if self.cause == "error":
            return before is None or before.signature != self.signature
        return self.cause in _PASSING

    def __reduce__(self) -> tuple[type, tuple[FailureCause, str, str, str, float]]:  # crosses Ray by pickling
        return StageFailed, (self.cause, self.message, self.detail, self.signature, self.silent_seconds)
