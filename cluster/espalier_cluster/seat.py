"""A rank's side of the desk: what Ray Train runs on every worker for as long as the group lives."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import ray
import ray.train
from ray.actor import ActorHandle

from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.failure import RankFailed, describe


class SeatConfig(TypedDict):
    """What every rank is told at its start.

    Attributes:
        work: `module:function`, called with each order on every rank.
        logs: folder for what the workers write to their terminals; empty to leave that to Ray, which carries
            it to the driver's.
    """

    desk: ActorHandle
    work: str
    logs: str


def take_orders(config: SeatConfig) -> None:
    """Carry out orders until the desk sends this rank home.

    Raises:
        RankFailed: the work failed. The group is not used again: after an exception nobody knows which
            collectives the other ranks have passed.
    """
    desk = config["desk"]
    rank = ray.train.get_context().get_world_rank()
    log = _write_to(Path(config["logs"]) / f"worker-{rank}.log") if config["logs"] else ""
    try:
        ray.get(desk.sit_down.remote(rank))
        work = find_work(config["work"])
        num_done = 0
        while (order := ray.get(desk.next_order.remote(num_done=num_done))) is not None:
            ray.get(desk.report.remote(rank, work(order)))
            num_done += 1
    except BaseException as error:
        raise RankFailed(rank, time.time(), describe(error, rank=rank, log=log)) from error


def find_work(path: str) -> Callable[[StageOrder], StageResult]:
    """The function that `module:function` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _write_to(path: Path) -> str:
    """Send this process's output to a file, native libraries included. Appends: groups follow one another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {socket.gethostname()} process {os.getpid()}\n")
        file.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    return str(path)
