"""A rank's side of the desk: what Ray Train runs on every worker for as long as the group lives."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import ray
import ray.train
from ray.actor import ActorHandle
from ray.exceptions import RayError

from espalier.stages.control import Control
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.desk import Chair, Wish
from espalier_cluster.ending import dump_on_signal
from espalier_cluster.failure import RankFailed, see

CONTROL = Control()
"""This process's: its main thread and the thread that works meet here."""

_BEAT_SECONDS = 0.5
_LEAVE_SECONDS = 30.0  # longer than it takes to write the stacks down, and Ray to take the group down

_group = 0


class SeatConfig(TypedDict):
    """What every rank is told at its start.

    Attributes:
        work: `module:function`, called with each order on every rank.
        logs: folder for what the workers write to their terminals; empty to leave that to Ray, which carries
            it to the driver's.
        stacks: folder for where each worker was when it had to be ended.
    """

    desk: ActorHandle
    work: str
    logs: str
    stacks: str


def take_orders(config: SeatConfig) -> None:
    """Carry out orders until the desk sends this rank home.

    Raises:
        RankFailed: the work failed. All ranks are replaced then: after an exception nobody knows which
            collectives the others have passed.
    """
    desk = config["desk"]
    rank = ray.train.get_context().get_world_rank()
    log = _write_to(Path(config["logs"]) / f"worker-{rank}.log") if config["logs"] else ""
    dump_on_signal(Path(config["stacks"]) / f"worker-{rank}.txt")
    try:
        chair = Chair(rank, ray.get_runtime_context().get_node_id(), os.getpid())
        group = _group
        ray.get(desk.sit_down.remote(group, chair))
        threading.Thread(target=_give_signs_of_life, args=(desk, group, rank), daemon=True).start()
        work = find_work(config["work"])
        number = 0
        while (given := ray.get(desk.next_order.remote(group, after=number))) is not None:
            number, order = given
            CONTROL.beat("starting")
            ray.get(desk.report.remote(group, rank, work(order, CONTROL)))
    except BaseException as error:
        from espalier.worker.failure import describe  # here, because the driver imports this module too

        where = f"Worker {rank} on {socket.gethostname()}"
        raise RankFailed(rank, time.time(), describe(error, where=where, see=see(log))) from error


def join(group: int) -> None:
    """Be of this group. SIGTERM, which comes before a machine is taken away, is a wish to stop from here on.

    Called in each process's main thread, before anything else.
    """
    global _group
    _group = group
    signal.signal(signal.SIGTERM, lambda number, frame: CONTROL.preempted.set())


def _give_signs_of_life(desk: ActorHandle, group: int, rank: int) -> None:
    with contextlib.suppress(RayError):  # the desk is gone: so will this process be
        given_up_at: float | None = None
        while True:
            wish: Wish = ray.get(desk.beat.remote(group, rank, CONTROL.pulse()))
            if wish == "stop":
                CONTROL.stop.set()
            if wish == "leave":
                given_up_at = given_up_at or time.monotonic()
                if time.monotonic() - given_up_at > _LEAVE_SECONDS:  # whoever was to end it could not
                    os._exit(1)
            time.sleep(_BEAT_SECONDS)


def find_work(path: str) -> Callable[[StageOrder, Control], StageResult]:
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
