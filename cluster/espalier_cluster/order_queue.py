"""The queue through which the driver gives orders to its workers and gets their results back.

Driver and workers wait in blocking calls that return as soon as there is an order or a result. Nobody polls, so going
from one stage to the next costs a few round trips.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import HeartbeatSchedule, Pulse
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.hang_detector import Hang, HangDetector

_LATENCY_SECONDS = 1.0  # of a heartbeat and of the driver's poll; subtracted so a hang is found in `hang_seconds`


Instruction = Literal["go on", "stop", "leave"]
"""What a worker is told to do: continue, end its order after this step, or exit at once because its group is lost."""


class GroupLost(Exception):
    """Raised to a worker whose group has been replaced or is about to be."""


@dataclass(frozen=True)
class WorkerAddress:
    """Where a rank runs: the node, by Ray's id, the process id, and the host's name."""

    rank: int
    node: str
    pid: int
    host: str = ""


class OrderQueue:
    """Holds one order at a time for the workers of one driver. Runs as a Ray actor, on one event loop.

    Workers come in numbered groups. When one worker is lost, the whole group is replaced, and messages of earlier
    groups are ignored. An order is done when every rank has reported a result: a rank that fails after rank zero
    has returned still fails the stage.
    """

    def __init__(self, num_workers: int, *, hang_seconds: float = 10.0) -> None:
        self._num_workers = num_workers
        self._least_seconds = max(hang_seconds - _LATENCY_SECONDS, hang_seconds / 2)
        self._order: StageOrder | None = None
        self._num_orders = 0
        self._outcome: StageResult | StageFailed | None = None
        self._group, self._is_lost, self._was_given = 0, True, False
        self._started: dict[int, WorkerAddress] = {}
        self._reported: dict[int, StageResult] = {}
        self._hang_detector = HangDetector(num_workers, least_seconds=self._least_seconds)
        self._is_closed = False
        self._is_stopping = False
        self._changed = asyncio.Condition()

    async def carry_out(self, order: StageOrder) -> StageResult | StageFailed:
        """Give an order to the workers and wait for its outcome.

        A failure is returned and not raised, because Ray would wrap it in an exception of its own.
        """
        async with self._changed:
            self._order, self._outcome, self._was_given = order, None, False
            self._num_orders += 1
            self._is_stopping = False
            self._reported.clear()
            self._hang_detector.begin(time.monotonic())
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._outcome is not None)
            assert self._outcome is not None
            return self._outcome

    async def open_group(self) -> int:
        """Register a new group of workers, which replaces the current one; returns its number."""
        if self._was_given and not self._is_lost:
            await self.lose_group(StageFailed("worker_lost", "Ray started all workers anew."))
        async with self._changed:
            self._group += 1
            self._is_lost = self._was_given = False
            self._started.clear()
            self._reported.clear()
            self._hang_detector = HangDetector(self._num_workers, least_seconds=self._least_seconds)
            self._hang_detector.begin(time.monotonic())
            self._changed.notify_all()
            return self._group

    async def worker_started(self, group: int, address: WorkerAddress) -> HeartbeatSchedule:
        """Record that a rank has started and where it runs; returns when it has to send heartbeats.

        Raises:
            GroupLost: its group was replaced in the meantime.
        """
        self._require(group)
        self._started[address.rank] = address
        self._hang_detector.worker_started(address.rank, time.monotonic())
        return self._hang_detector.schedule(address.rank)

    async def beat(self, group: int, rank: int, pulse: Pulse) -> Instruction:
        """Record a rank's heartbeat; returns what the rank has to do."""
        if group != self._group or self._is_lost:
            return "leave"
        self._hang_detector.record_heartbeat(rank, pulse, time.monotonic())
        return "stop" if self._is_stopping else "go on"

    async def ask_to_stop(self) -> None:
        """Answer `stop` to every rank's next heartbeat, until another order is given."""
        self._is_stopping = True

    async def end_hang(self) -> tuple[Hang, list[WorkerAddress]] | None:
        """If the current order hangs, fail it; returns the hang and the addresses of the workers to kill."""
        hang = self._hang_detector.hang(time.monotonic()) if self._outcome is None and not self._is_lost else None
        if hang is None:
            return None
        addresses = list(self._started.values())
        await self.lose_group(StageFailed("hang", str(hang)))
        return hang, addresses

    async def next_order(self, group: int, *, after: int) -> tuple[int, StageOrder] | None:
        """Wait for an order whose number is larger than `after`; returns number and order, None after `close`.

        Raises:
            GroupLost: the group was replaced. Not None, because the worker must not seem to have finished.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._is_current(group) or (self._outcome is None and self._num_orders > after)
            )
            if self._is_closed:
                return None
            self._require(group)
            assert self._order is not None
            self._was_given = True
            return self._num_orders, self._order

    async def report(self, group: int, rank: int, result: StageResult) -> None:
        """Record a rank's result of the current order. The outcome is rank zero's, once all ranks have reported."""
        async with self._changed:
            if self._is_current(group):
                self._reported[rank] = result
                if len(self._reported) == self._num_workers:  # not before: it wakes every rank that has reported
                    self._outcome = self._outcome or self._reported[0]
                    self._changed.notify_all()

    async def lose_group(self, failure: StageFailed) -> None:
        """Give up the current group and fail its order. The first reason given for a group is kept."""
        async with self._changed:
            if not self._is_lost:
                self._is_lost = True
                self._outcome = self._outcome or failure
                self._changed.notify_all()

    async def close(self) -> bool:
        """Answer None to every rank that asks for an order from now on; returns whether any worker has started."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            return await self.num_started_workers() > 0

    async def num_started_workers(self) -> int:
        """How many workers of the current group have started; 0 when the group is lost."""
        return 0 if self._is_lost else len(self._started)

    async def hosts(self) -> dict[str, int]:
        """Host -> number of workers of the current or last group that have started on it."""
        return dict(Counter(address.host for address in self._started.values()))

    def _require(self, group: int) -> None:
        if group != self._group or self._is_lost:
            raise GroupLost("another worker of this group was lost, and all are replaced")

    def _is_current(self, group: int) -> bool:
        return group == self._group and not self._is_lost and not self._is_closed
