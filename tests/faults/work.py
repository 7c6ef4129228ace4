"""Work for the matrix: short steps with a collective each, in which the stage's name says what goes wrong."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist

from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult

HIT_STEP = 60  # so that each worker has given signs of life: they come every half second
_STEPS = {"slow": 1000, "queue": 1500, "train": 1500}
_SLOW_STEPS, _PAUSES = {100, 400, 700}, {30: 4.0, 600: 6.0}


def serve(order: StageOrder, control: Control) -> StageResult:
    """Steps of 20 ms; on the first attempt something happens to the ranks that the fault is of."""
    rank = dist.get_rank()
    total = torch.tensor([0])
    for step in range(1, _STEPS.get(order.stage, 100) + 1):
        control.beat("step")
        time.sleep(0.1 if order.stage == "slow" and step in _SLOW_STEPS else 0.02)
        if order.stage == "slow" and rank == 1:
            time.sleep(_PAUSES.get(step, 0.0))
        if step == HIT_STEP and (order.attempt == 1 or order.stage in ("raise-always", "memory")):
            _hit(order, rank)
        if order.stage == "skip" and order.attempt == 1 and rank == 1 and step >= HIT_STEP:
            continue
        total = torch.tensor([rank + 1])
        dist.all_reduce(total)
    dist.barrier()
    key = Path(order.run_folder, "key").read_text()
    return StageResult(order.stage, "load", key, "done", None, {"sum": int(total), "pid": os.getpid()})


def _hit(order: StageOrder, rank: int) -> None:
    ranks, happens = _FAULTS.get(order.stage, ((), _nothing))
    first = Path(order.run_folder, "hit")
    if not first.exists() and (rank in ranks or (rank == 0 and order.stage in _STEPS)):
        first.write_text(str(time.time()))
    if rank in ranks:
        happens()


def _nothing() -> None:
    pass


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _hold_the_interpreter() -> None:
    ctypes.PyDLL(None).sleep(600)


def _raise() -> None:
    raise ValueError("seven is not a power of two")


def _run_out_of_memory() -> None:
    raise torch.OutOfMemoryError("tried to allocate 7.00 GiB")


_FAULTS: dict[str, tuple[tuple[int, ...], Callable[[], object]]] = {
    "kill-0": ((0,), _kill),
    "kill-1": ((1,), _kill),
    "kill-both": ((0, 1), _kill),
    "exit-0": ((1,), lambda: sys.exit(0)),
    "exit-3": ((1,), lambda: sys.exit(3)),
    "abort": ((1,), os.abort),
    "segfault": ((1,), lambda: ctypes.string_at(0)),
    "raise": ((1,), _raise),
    "raise-always": ((1,), _raise),
    "memory": ((1,), _run_out_of_memory),
    "stop": ((1,), _stop),
    "interpreter": ((1,), _hold_the_interpreter),
    "skip": ((1,), _nothing),
}
