"""Why a stage failed: told by the rank it happened on, and judged where all ranks' stories meet."""

from __future__ import annotations

import re
import socket
import traceback
from collections.abc import Mapping

from espalier.stages.orders import FailureCause, StageFailed


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


def describe(error: BaseException, *, rank: int, log: str) -> StageFailed:
    """What happened on this rank, with its traceback.

    Args:
        log: the file that has what the worker wrote, named in the message; empty when there is none.
    """
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, StageFailed):
        return StageFailed(error.cause, error.message, error.detail or detail)
    where = f"Worker {rank} on {socket.gethostname()}"
    return StageFailed(_cause(error), f"{where}: {type(error).__name__}: {error}{_see(log)}", detail)


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
        return StageFailed("node_lost", f"{where} was lost with its node{_see(log)}", story)
    if re.search(r"NODE_OUT_OF_MEMORY|memory monitor|low on memory", story):
        return StageFailed("out_of_memory", f"{where} was ended because its host ran out of memory{_see(log)}", story)
    return StageFailed("worker_lost", f"{where} died without a word{_see(log)}", story)


def _cause(error: BaseException) -> FailureCause:
    import torch  # here, because the driver imports this module too and has no use for torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out_of_memory"
    if isinstance(error, torch.distributed.DistError) or _is_broken_connection(error):
        return "worker_lost"
    return "error"


def _is_broken_connection(error: BaseException) -> bool:
    # gloo raises a plain RuntimeError when a peer is gone; only its text tells (torch 2.11, 2.13).
    return isinstance(error, RuntimeError) and bool(re.search(r"/gloo/|NCCL|Connection (closed|reset)", str(error)))


def _see(log: str) -> str:
    return f". What it wrote: {log}" if log else "."
