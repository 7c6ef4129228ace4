"""Why a stage failed: told by the rank it happened on, and judged where all ranks' stories meet."""

from __future__ import annotations

import re
from collections.abc import Mapping

from espalier.stages.orders import StageFailed


class RankFailed(Exception):
    """One rank's failure on its way through Ray Train, which would drop the traceback of the original.

    Attributes:
        at_seconds: when, since the epoch on the rank's own clock.
    """

    def __init__(self, rank: int, at_seconds: float, failure: StageFailed) -> None:
        super().__init__(failure.message)
        self.rank = rank
        self.at_seconds = at_seconds
        self.failure = failure

    def __reduce__(self) -> tuple[type, tuple[int, float, StageFailed]]:
        return RankFailed, (self.rank, self.at_seconds, self.failure)


def judge(errors: Mapping[int, Exception], *, logs: str) -> StageFailed:
    """The one failure among those of all ranks that explains the others.

    A dead process comes first, then the earliest failure that is not about a connection: when one rank is
    gone, the collectives of the others break.

    Args:
        errors: rank -> what Ray Train learned about it.
        logs: folder of the workers' logs; empty when they have none.
    """
    told = [error for error in errors.values() if isinstance(error, RankFailed)]
    died = {rank: error for rank, error in errors.items() if not isinstance(error, RankFailed)}
    if died:
        rank, error = min(died.items())
        return _death(rank, str(error), log=f"{logs}/worker-{rank}.log" if logs else "")
    first = min(told, key=lambda error: (error.failure.cause == "worker_lost", error.at_seconds))
    return first.failure


def _death(rank: int, story: str, *, log: str) -> StageFailed:
    """Read Ray's text about a dead actor: it has no field that tells the causes apart (2.60)."""
    host = re.search(r"hostname='([^']*)'", story)
    where = f"Worker {rank}{f' on {host[1]}' if host else ''}"
    if "node" in story and re.search(r"its node has died|node was (terminated|removed)|[Nn]ode (died|failed)", story):
        return StageFailed("node_lost", f"{where} was lost with its node{see(log)}", story)
    if re.search(r"NODE_OUT_OF_MEMORY|memory monitor|low on memory", story):
        return StageFailed("out_of_memory", f"{where} was ended because its host ran out of memory{see(log)}", story)
    return StageFailed("worker_lost", f"{where} died without a word{see(log)}", story)


def see(log: str) -> str:
    """Where a person reads on; nothing without a log."""
    return f". What it wrote: {log}" if log else "."
