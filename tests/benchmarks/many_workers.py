"""What one order queue takes of a core for many workers, how fast it hands out orders, and how soon it finds a hang.

    python tests/benchmarks/many_workers.py [--workers 512] [--seconds 30] [--often]

The real `OrderQueue` actor on a local Ray cluster. Its workers are threads of a few processes that say what
`worker_loop.take_orders` says: started, heartbeats (the same code), next order, report. `--often` sends every heartbeat
after half a second whatever the number of workers, as espalier did before. The driver's polls are made as well.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import psutil
import ray

from espalier.jobs.job import WorkersConfig
from espalier.stages.heartbeats import LOOK_SECONDS, Control, HeartbeatSchedule, Pulse
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.group import queue_options
from espalier_cluster.local_cluster import cluster
from espalier_cluster.log_filter import filter_logs
from espalier_cluster.order_queue import OrderQueue, WorkerAddress
from espalier_cluster.worker_loop import send_heartbeats

PROCESSES = 4
HANG_SECONDS = 10.0
STEP_SECONDS = 0.5
_NEVER_SECONDS = 86400.0


class MeasuredQueue(OrderQueue):
    """The order queue, which also says in which process it runs and takes a group's loss as done."""

    async def pid(self) -> int:
        return os.getpid()


class LightControl(Control):
    """A worker's control that can stop sending heartbeats."""

    def __init__(self) -> None:
        super().__init__()
        self.is_silent = False

    def pulse(self) -> Pulse:
        if self.is_silent:
            time.sleep(_NEVER_SECONDS)
        return super().pulse()


@dataclass
class Seen:
    """Of one worker: when it got its latest order and when it reported; unix seconds."""

    given_at: float = 0.0
    reported_at: float = 0.0


class LightWorkers:
    """Some of the workers, as threads of one process."""

    def __init__(self, queue: Any, ranks: list[int], often: bool) -> None:
        self._queue, self._often = queue, often
        self._controls = {rank: LightControl() for rank in ranks}
        self._seen = {rank: Seen() for rank in ranks}
        self._free = threading.Event()
        self._free.set()

    def start(self, group: int) -> None:
        """Start them all; returns at once."""
        for rank in self._controls:
            threading.Thread(target=self._take_orders, args=(group, rank), daemon=True).start()

    def seen(self) -> list[Seen]:
        return list(self._seen.values())

    def block(self, silent: int | None) -> None:
        """Let no step end any more, as a collective that somebody has not reached; `silent` sends no heartbeat."""
        self._free.clear()
        if silent in self._controls:
            self._controls[silent].is_silent = True

    def _take_orders(self, group: int, rank: int) -> None:
        queue, control, seen = self._queue, self._controls[rank], self._seen[rank]
        schedule: HeartbeatSchedule = ray.get(queue.worker_started.remote(group, WorkerAddress(rank, "node", 1)))
        if self._often:
            schedule = replace(schedule, every_seconds=LOOK_SECONDS)
        threading.Thread(target=send_heartbeats, args=(queue, group, rank, control, schedule), daemon=True).start()
        number = 0
        while (given := ray.get(queue.next_order.remote(group, after=number))) is not None:
            number, order = given
            seen.given_at = time.time()
            control.beat("starting")
            for _ in range(order.attempt):
                control.beat("step")
                time.sleep(STEP_SECONDS)
                self._free.wait()
            seen.reported_at = time.time()
            ray.get(queue.report.remote(group, rank, StageResult(order.stage, "train", "key", "done", None)))


@dataclass
class Scene:
    """A queue with its started workers."""

    queue: Any
    hosts: list[Any]
    process: psutil.Process

    def carry_out(self, *, steps: int) -> ray.ObjectRef[Any]:
        return self.queue.carry_out.remote(StageOrder("/run", "stage", steps))

    def seen(self) -> list[Seen]:
        return [one for some in ray.get([host.seen.remote() for host in self.hosts]) for one in some]

    def poll(self) -> Any:
        """As `RayRunner` does between two looks; the hang, once there is one."""
        ray.get(self.queue.num_started_workers.remote())
        return ray.get(self.queue.end_hang.remote())


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=30.0, help="over which the queue's share of a core is taken")
    parser.add_argument("--often", action="store_true", help="every worker's heartbeat each half second")
    asked = parser.parse_args()
    for silent in (None, asked.workers // 2):
        with filter_logs(), cluster(WorkersConfig(count=PROCESSES)):
            scene = open_scene(asked.workers, often=asked.often)
            if silent is None:
                tell_cost(scene, seconds=asked.seconds)
                tell_orders(scene)
            tell_hang(scene, silent)


def open_scene(workers: int, *, often: bool) -> Scene:
    """Start queue and workers; prints how long the workers took to be known."""
    queue: Any = ray.remote(MeasuredQueue).options(**queue_options(workers)).remote(workers, hang_seconds=HANG_SECONDS)
    group = ray.get(queue.open_group.remote())
    light: Any = ray.remote(LightWorkers).options(max_concurrency=4)
    hosts = [light.remote(queue, list(range(place, workers, PROCESSES)), often) for place in range(PROCESSES)]
    ray.get([host.seen.remote() for host in hosts])
    began = time.monotonic()
    ray.get([host.start.remote(group) for host in hosts])
    while ray.get(queue.num_started_workers.remote()) < workers:
        time.sleep(0.05)
    print(f"{workers} workers started                       {time.monotonic() - began:8.2f} s", flush=True)
    return Scene(queue, hosts, psutil.Process(ray.get(queue.pid.remote())))


def tell_cost(scene: Scene, *, seconds: float) -> None:
    """The queue's processor time in the steady state of steps."""
    answer = scene.carry_out(steps=round((seconds + 5) / STEP_SECONDS))
    time.sleep(2)
    used, began = _cpu_seconds(scene.process), time.monotonic()
    while time.monotonic() - began < seconds:
        assert scene.poll() is None, "a hang where there is none"
        time.sleep(LOOK_SECONDS)
    wall = time.monotonic() - began
    share = (_cpu_seconds(scene.process) - used) / wall
    print(f"share of a core over {wall:4.0f} s                  {share:10.3f}", flush=True)
    print(f"memory of the queue's process              {scene.process.memory_info().rss / 2**20:8.0f} MiB", flush=True)
    while not ray.wait([answer], timeout=LOOK_SECONDS)[0]:
        assert scene.poll() is None, "a hang where there is none"


def tell_orders(scene: Scene) -> None:
    """How long it takes until every worker has the next order, and until the driver has the outcome after the last."""
    for _ in range(3):
        time.sleep(1)
        began = time.time()
        ray.get(scene.carry_out(steps=1))
        ended, seen = time.time(), scene.seen()
        given = max(one.given_at for one in seen) - began
        told = ended - max(one.reported_at for one in seen)
        print(f"order with all {given:6.2f} s, outcome after last report {told:6.2f} s", flush=True)


def tell_hang(scene: Scene, silent: int | None) -> None:
    """How soon a hang is found, with or without a worker that sends no heartbeat."""
    scene.carry_out(steps=10_000)
    time.sleep(10)
    ray.get([host.block.remote(silent) for host in scene.hosts])
    began = time.monotonic()
    while not (found := scene.poll()):
        time.sleep(LOOK_SECONDS)
    title = "all blocked" if silent is None else "one stopped, the others wait for it"
    print(f"{title:<42} {time.monotonic() - began:8.2f} s: {found[0]}", flush=True)


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    main()
