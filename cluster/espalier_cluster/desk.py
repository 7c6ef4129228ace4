"""The desk between the driver and one worker group: orders lie on it, results come back over it.

Everyone waits here in a call that returns when there is something to say, so a seam between two stages costs
a few round trips and nobody polls. A desk serves one worker group: nothing on it outlives a lost group.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from espalier.stages.control import Pulse
from espalier.stages.orders import StageFailed, StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.watch import Hang, Watch

_LATENCY_SECONDS = 1.0  # of a sign of life and of the driver's look: a hang is found within `hang_seconds`


@dataclass(frozen=True)
class Chair:
    """Where a rank runs: Ray's id of the node, and the process."""

    rank: int
    node: str
    pid: int


class Desk:
    """Holds the orders of one worker group, one at a time. Runs as a Ray actor, on one event loop.

    An order is done when every rank has reported it: a rank that fails after rank zero returned still fails
    the stage.
    """

    def __init__(self, num_workers: int, *, hang_seconds: float = 10.0) -> None:
        self._num_workers = num_workers
        self._orders: list[StageOrder] = []
        self._seated: dict[int, Chair] = {}
        self._reported: dict[int, StageResult] = {}
        self._failure: StageFailed | None = None
        self._closed = False
        self._watch = Watch(num_workers, least_seconds=max(hang_seconds - _LATENCY_SECONDS, hang_seconds / 2))
        self._is_stopping = False
        self._changed = asyncio.Condition()

    async def carry_out(self, order: StageOrder) -> StageResult | StageFailed:
        """Lay down an order and wait for its outcome.

        A failure is returned, because Ray would wrap it in an error of its own if it were raised.
        """
        async with self._changed:
            self._reported.clear()
            self._watch.begin(time.monotonic())
            self._orders.append(order)
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._failure is not None or self._all_reported)
            return self._failure or self._reported[0]

    async def sit_down(self, rank: int, chair: Chair) -> None:
        """A rank has started."""
        self._seated[rank] = chair
        self._watch.sit_down(rank, time.monotonic())

    async def chairs(self) -> list[Chair]:
        """Where the ranks that have started are."""
        return list(self._seated.values())

    async def beat(self, rank: int, pulse: Pulse) -> bool:
        """A rank's sign of life; whether it is to stop at the end of its step."""
        self._watch.hear(rank, pulse, time.monotonic())
        return self._is_stopping

    async def ask_to_stop(self) -> None:
        """Let every rank know at its next sign of life."""
        self._is_stopping = True

    async def hang(self) -> Hang | None:
        """Which order hangs, if the one that is out does."""
        return None if self._all_reported else self._watch.hang(time.monotonic())

    async def next_order(self, *, num_done: int) -> StageOrder | None:
        """The order after the first `num_done`, as soon as it is there; None when no more will come."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or len(self._orders) > num_done)
            return None if self._closed else self._orders[num_done]

    async def report(self, rank: int, result: StageResult) -> None:
        """A rank has carried out the current order. Rank zero's result is the one that counts."""
        async with self._changed:
            self._reported[rank] = result
            self._changed.notify_all()

    async def lose(self, failure: StageFailed) -> None:
        """The group is gone: fails the order that is out and any laid down later. The first reason stays."""
        async with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    async def close(self) -> None:
        """Send home every rank that asks for an order from now on."""
        async with self._changed:
            self._closed = True
            self._changed.notify_all()

    async def num_seated(self) -> int:
        """How many ranks have started."""
        return len(self._seated)

    @property
    def _all_reported(self) -> bool:
        return len(self._reported) == self._num_workers
