"""Classify exceptions on a worker into causes of failure."""

from __future__ import annotations

import re
import traceback

import torch

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.config.faults import RefusedInput
from espalier.evaluation.finite import NotFinite
from espalier.stages.failures import TAKES_NO_MORE, FailureCause, StageFailed
from espalier.storage.contract import NotAsWritten

_IS_LASTING = "is_lasting"
_LASTING = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    NotImplementedError,
    RecursionError,
    TypeError,
    ValueError,
)


def describe(error: BaseException, *, where: str, see: str = "") -> StageFailed:
    """Turn an exception into a `StageFailed` with its traceback; a `StageFailed` keeps its cause and message.

    Args:
        where: the beginning of the message; `see`: its end.
    """
    detail = "".join(traceback.format_exception(error))
    if isinstance(error, StageFailed):
        return StageFailed(error.cause, error.message, error.detail or detail, error.signature)
    said = str(error) if isinstance(error, NotFinite) else f"{type(error).__name__}: {error}"
    what = "; ".join([said, *getattr(error, "__notes__", ())])
    return StageFailed(_cause(error), f"{where}: {what}{_advice(error)}{see}", detail, signature=what)


def mark_lasting(error: Exception) -> None:
    """Mark an error before the first step that the same input would raise again, so that it is not retried.

    Errors of disks and networks, and files read wrongly, are not marked: they may pass.
    """
    if isinstance(error, _LASTING) and not isinstance(error, DamagedCheckpoint | NotAsWritten):
        setattr(error, _IS_LASTING, True)


def _cause(error: BaseException) -> FailureCause:
    if isinstance(error, RefusedInput):
        return "refused"
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in TAKES_NO_MORE:
        return "storage"
    if isinstance(error, NotFinite):
        return "unstable"
    if getattr(error, _IS_LASTING, False):
        return "lasting_error"
    if isinstance(error, torch.distributed.DistError) or _is_broken_connection(error):
        return "worker_lost"
    return "error"


def _advice(error: BaseException) -> str:
    if _cause(error) == "out_of_memory":
        return " (smaller microbatch_sequences, activation_checkpointing or a higher zero_level need less)"
    return ""


def _is_broken_connection(error: BaseException) -> bool:
    # gloo raises a plain RuntimeError when a peer is gone; only its text tells (torch 2.11, 2.13).
    return isinstance(error, RuntimeError) and bool(re.search(r"/gloo/|NCCL|Connection (closed|reset)", str(error)))
