"""Work for the runner's tests: needs the process group and nothing else of espalier."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist

from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.local_cluster import FOLDER


def serve(order: StageOrder, control: Control) -> StageResult:
    """Does what the stage's name says, on the first attempt only, between two collectives."""
    rank = dist.get_rank()
    total = torch.tensor([rank + 1])
    dist.all_reduce(total)
    if order.stage == "steps":
        _take_steps(order, control)
    if order.attempt == 1 and rank == 1:
        _misbehave(order)
    dist.barrier()
    if order.stage == "meeting":
        return StageResult(order.stage, "train", "key", "done", None, _meeting())
    metrics = {"pid": os.getpid(), "sum": int(total), "threads": os.environ["OMP_NUM_THREADS"]}
    return StageResult(order.stage, "train", "key", "done", None, metrics)


def _meeting() -> dict[str, Any]:
    """How the group came together, and where this process listens."""
    connections = psutil.Process().net_connections()
    listening = {one.laddr.ip for one in connections if one.status == psutil.CONN_LISTEN}
    return {"port": os.environ.get("MASTER_PORT"), "listening": sorted(listening), "folder": os.environ[FOLDER]}


def _take_steps(order: StageOrder, control: Control) -> None:
    """Steps of 50 ms until somebody wishes to stop; on the first attempt the fifteenth never ends."""
    pids = Path(order.run_folder, f"pid-{dist.get_rank()}")
    pids.write_text(str(os.getpid()))
    for step in range(1, 1000):
        control.beat("step")
        time.sleep(0.05)
        wishes = torch.tensor([control.stop.is_set(), control.preempted.is_set()]).int()
        dist.all_reduce(wishes)
        if wishes.any():
            raise StageFailed("stopped" if wishes[0] else "preempted", f"after step {step}")
        if order.attempt == 1 and dist.get_rank() == 1 and step == 15:
            os.kill(os.getpid(), signal.SIGSTOP)


def _misbehave(order: StageOrder) -> None:
    if order.stage == "raise":
        raise ValueError("seven is not a power of two")
    if order.stage == "die":
        Path(order.run_folder, "died_at").write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)
    if order.stage == "hold":
        Path(order.run_folder, "holding").touch()
        time.sleep(600)
