"""Work for the runner's tests: needs the process group and nothing else of espalier."""

import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist

from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult


def serve(order: StageOrder) -> StageResult:
    """Does what the stage's name says, on the first attempt only, between two collectives."""
    rank = dist.get_rank()
    total = torch.tensor([rank + 1])
    dist.all_reduce(total)
    if order.attempt == 1 and rank == 1:
        _misbehave(order)
    dist.barrier()
    metrics = {"pid": os.getpid(), "sum": int(total), "threads": os.environ["OMP_NUM_THREADS"]}
    return StageResult(order.stage, "train", "key", "done", None, metrics)


def _misbehave(order: StageOrder) -> None:
    if order.stage == "raise":
        raise ValueError("seven is not a power of two")
    if order.stage == "die":
        Path(order.run_folder, "died_at").write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)
    if order.stage == "hold":
        Path(order.run_folder, "holding").touch()
        time.sleep(600)
