"""Find the cause of a failed stage among the exceptions of all ranks."""

from __future__ import annotations

import re
from collections.abc import Mapping

from espalier.stages.failures import StageFailed


class RankFailed(Exception):
    """Carries one rank's failure through Ray Train, which would drop the original traceback.

    Attributes:
        at_seconds: unix seconds of the failure, on the rank's clock.
    """

    def __init__(self, rank: int, at_seconds: float, failure: StageFailed) -> None:
        super().__init__(failure.message)
        self.rank = rank
        self.at_seconds = at_seconds
        self.failure = failure

    def __reduce__(self) -> tuple[type, tuple[int, float, StageFailed]]:
        return RankFailed, (self.rank, self.at_seconds, self.failure)


def judge(errors: Mapping[int, Exception], *, logs: str) -> StageFailed:
    """Choose the failure that caused the others.

    A dead process is the cause before anything else, then the earliest failure that is not about a connection: when
    one rank is gone, the collectives of the others fail.

    Args:
        errors: rank -> exception that Ray Train reports.
        logs: folder of the workers' logs; empty when they have none.
    """
    failures = [error for error in errors.values() if isinstance(error, RankFailed)]
    died = {rank: error for rank, error in errors.items() if not isinstance(error, RankFailed)}
    if died:
        rank, error = min(died.items())
        return _death(rank, str(error), log=f"{logs}/worker-{rank}.log" if logs else "")
    first = min(failures, key=lambda error: (error.failure.cause == "worker_lost", error.at_seconds))
    return first.failure


def _death(rank: int, story: str, *, log: str) -> StageFailed:
    """Classify the death of a worker from Ray's message, which has no field for the cause (2.60)."""
    host = re.search(r"hostname='([^']*)'", story)
    where = f"Worker {rank}{f' on {host[1]}' if host else ''}"
    if "node" in story and re.search(r"its node has died|node was (terminated|removed)|[Nn]ode (died|failed)", story):
        return StageFailed("node_lost", f"{where} was lost with its node{see(log)}", story)
    if re.search(r"NODE_OUT_OF_MEMORY|memory monitor|low on memory", story):
        return StageFailed("out_of_memory", f"{where} was ended because its host ran out of memory{see(log)}", story)
    return StageFailed("worker_lost", f"{where} died without a message{see(log)}", story)


def cause_of(error: Exception) -> str:
    """The exception of a remote call in a line. Ray's own first line only says which call it was."""
    cause = getattr(error, "cause", None) or error
    first, _, _ = str(cause).strip().partition("\n")
    return f"{type(cause).__name__}: {first}"


def see(log: str) -> str:
    """The end of a sentence that points to the worker's log; just a full stop without one."""
    return f". What it wrote: {log}" if log else "."
