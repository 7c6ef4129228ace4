"""The loop that Ray Train runs on every worker: take an order from the queue, carry it out, report the result."""

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

from espalier.stages.heartbeats import LOOK_SECONDS, Control, HeartbeatSchedule, HeartbeatTimer
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.failure import RankFailed, see
from espalier_cluster.kill_workers import dump_on_signal
from espalier_cluster.order_queue import Instruction, WorkerAddress

CONTROL = Control()
"""Shared by this process's threads: the main thread sets stop requests from signals, the working thread reads them."""

_SAVE_SECONDS, _EXIT_SECONDS = 20.0, 40.0  # without an answer; after a minute another driver may take the run over
_LOOK_SECONDS = 1.0
_LEAVE_SECONDS = 30.0  # longer than writing the stacks and Ray's own shutdown of the group take

_group = 0


class WorkerLoopConfig(TypedDict):
    """The arguments of `take_orders`, the same on every rank.

    Attributes:
        queue: handle of the `OrderQueue` actor.
        work: `module:function`, called with each order on every rank.
        logs: folder for the workers' stdout and stderr; empty: Ray forwards them to the driver's terminal.
        stacks: folder for the stack traces of workers that had to be killed.
    """

    queue: ActorHandle
    work: str
    logs: str
    stacks: str


def take_orders(config: WorkerLoopConfig) -> None:
    """Carry out orders until the queue is closed.

    Raises:
        RankFailed: the work failed. All ranks are replaced then: after an exception nobody knows which
            collectives the others have passed.
    """
    queue = config["queue"]
    rank = ray.train.get_context().get_world_rank()
    log = _write_to(Path(config["logs"]) / f"worker-{rank}.log") if config["logs"] else ""
    dump_on_signal(Path(config["stacks"]) / f"worker-{rank}.txt")
    try:
        address = WorkerAddress(rank, ray.get_runtime_context().get_node_id(), os.getpid(), socket.gethostname())
        group = _group
        told: ray.ObjectRef[HeartbeatSchedule] = queue.worker_started.remote(group, address)
        sending = (queue, group, rank, CONTROL, ray.get(told))
        threading.Thread(target=send_heartbeats, args=sending, daemon=True).start()
        work = find_work(config["work"])
        number = 0
        while (given := ray.get(queue.next_order.remote(group, after=number))) is not None:
            number, order = given
            CONTROL.beat("starting")
            ray.get(queue.report.remote(group, rank, work(order, CONTROL)))
    except BaseException as error:
        from espalier.worker.failure import describe  # here, because the driver imports this module too

        where = f"Worker {rank} on {socket.gethostname()}"
        raise RankFailed(rank, time.time(), describe(error, where=where, see=see(log))) from error


def join(group: int) -> None:
    """Remember this worker's group number, and treat SIGTERM (sent before a preemption) as a request to stop.

    Must be called in the process's main thread: only that may install signal handlers.
    """
    global _group
    _group = group
    signal.signal(signal.SIGTERM, lambda number, frame: CONTROL.preempted.set())


def send_heartbeats(queue: ActorHandle, group: int, rank: int, control: Control, schedule: HeartbeatSchedule) -> None:
    """Send a worker's heartbeats and do what the queue answers; returns when the queue's actor has died."""
    timer = HeartbeatTimer(schedule, time.monotonic())
    with contextlib.suppress(RayError):  # the queue's actor died; Ray is about to end this process too
        while True:
            pulse = control.pulse()
            if timer.is_due(pulse, time.monotonic()):
                instruction = _await_answer(queue.beat.remote(group, rank, pulse), control)
                if instruction == "stop":
                    control.stop.set()
                if instruction == "leave":
                    time.sleep(_LEAVE_SECONDS)
                    os._exit(1)  # the driver and Ray failed to kill it
            time.sleep(LOOK_SECONDS)


def _await_answer(answer: ray.ObjectRef[Instruction], control: Control) -> Instruction:
    """Wait for the queue's answer; while there is none, have this worker save, then end it.

    The queue is on the driver's node. When that loses its power or its network, nothing refuses connections, and Ray
    notices minutes later (2.60); this worker would go on without a driver beside those of the next one.
    """
    asked_at = time.monotonic()
    while not ray.wait([answer], timeout=_LOOK_SECONDS)[0]:
        silent_seconds = time.monotonic() - asked_at
        if silent_seconds > _SAVE_SECONDS:
            control.preempted.set()
        if silent_seconds > _EXIT_SECONDS:
            print(f"the driver's node has not answered for {silent_seconds:.0f} s: this worker ends", flush=True)
            os._exit(1)
    return ray.get(answer)


def find_work(path: str) -> Callable[[StageOrder, Control], StageResult]:
    """Import the function that `module:function` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _write_to(path: Path) -> str:
    """Redirect stdout and stderr to a file, native libraries' too. Appends, because several groups write to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {socket.gethostname()} process {os.getpid()}\n")
        file.flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    return str(path)
