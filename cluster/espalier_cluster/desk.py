"""The desk between the driver and its workers: orders lie on it, results come back over it.

Everyone waits here in a call that returns when there is something to say, so a seam between two stages costs
a few round trips and nobody polls.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

from espalier.stages.control import Pulse
from espalier.stages.orders import StageFailed, StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.watch import Hang, Watch

_LATENCY_SECONDS = 1.0  # of a sign of life and of the driver's look: a hang is found within `hang_seconds`


Wish = Literal["go on", "stop", "leave"]
"""Of a worker: to end its order after this step; or to end at once, because it was given up."""


class GroupLost(Exception):
    """A worker whose group was given up asks for something."""


@dataclass(frozen=True)
class Chair:
    """Where a rank runs: Ray's id of the node, and the process."""

    rank: int
    node: str
    pid: int


class Desk:
    """Holds the orders of one driver's workers, one at a time. Runs as a Ray actor, on one event loop.

    Its workers come in groups: when one of them is lost, all are replaced, and what an earlier group still says is
    not heard. An order is done when every rank has reported it: a rank that fails after rank zero returned still
    fails the stage.
    """

    def __init__(self, num_workers: int, *, hang_seconds: float = 10.0) -> None:
        self._num_workers = num_workers
        self._least_seconds = max(hang_seconds - _LATENCY_SECONDS, hang_seconds / 2)
        self._order: StageOrder | None = None
        self._num_orders = 0
        self._outcome: StageResult | StageFailed | None = None
        self._group, self._is_lost, self._was_given = 0, True, False
        self._seated: dict[int, Chair] = {}
        self._reported: dict[int, StageResult] = {}
        self._watch = Watch(num_workers, least_seconds=self._least_seconds)
        self._is_closed = False
        self._is_stopping = False
        self._changed = asyncio.Condition()

    async def carry_out(self, order: StageOrder) -> StageResult | StageFailed:
        """Lay down an order and wait for its outcome.

        A failure is returned, because Ray would wrap it in an error of its own if it were raised.
        """
        async with self._changed:
            self._order, self._outcome, self._was_given = order, None, False
            self._num_orders += 1
            self._is_stopping = False
            self._reported.clear()
            self._watch.begin(time.monotonic())
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._outcome is not None)
            assert self._outcome is not None
            return self._outcome

    async def open_group(self) -> int:
        """New workers are about to start, in the place of all that there were; the number of their group."""
        if self._was_given and not self._is_lost:
            await self.lose(StageFailed("worker_lost", "Ray started all workers anew."))
        async with self._changed:
            self._group += 1
            self._is_lost = self._was_given = False
            self._seated.clear()
            self._reported.clear()
            self._watch = Watch(self._num_workers, least_seconds=self._least_seconds)
            self._watch.begin(time.monotonic())
            self._changed.notify_all()
            return self._group

    async def sit_down(self, group: int, chair: Chair) -> None:
        """A rank has started.

        Raises:
            GroupLost: its group was replaced meanwhile.
        """
        self._require(group)
        self._seated[chair.rank] = chair
        self._watch.sit_down(chair.rank, time.monotonic())

    async def beat(self, group: int, rank: int, pulse: Pulse) -> Wish:
        """A rank's sign of life, and what is wished of it."""
        if group != self._group or self._is_lost:
            return "leave"
        self._watch.hear(rank, pulse, time.monotonic())
        return "stop" if self._is_stopping else "go on"

    async def ask_to_stop(self) -> None:
        """Let every rank know at its next sign of life."""
        self._is_stopping = True

    async def end_hang(self) -> tuple[Hang, list[Chair]] | None:
        """If the order that is out hangs: how, and the workers, which are lost with it."""
        hang = self._watch.hang(time.monotonic()) if self._outcome is None and not self._is_lost else None
        if hang is None:
            return None
        chairs = list(self._seated.values())
        await self.lose(StageFailed("hang", str(hang)))
        return hang, chairs

    async def next_order(self, group: int, *, after: int) -> tuple[int, StageOrder] | None:
        """The order that is out and its number, once that is larger than `after`; None when no more will come.

        Raises:
            GroupLost: this group gets no more. It must not seem to have come to its end.
        """
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._is_at_work(group) or (self._outcome is None and self._num_orders > after)
            )
            if self._is_closed:
                return None
            self._require(group)
            assert self._order is not None
            self._was_given = True
            return self._num_orders, self._order

    async def report(self, group: int, rank: int, result: StageResult) -> None:
        """A rank has carried out the order that is out. Rank zero's result is the one that counts."""
        async with self._changed:
            if self._is_at_work(group):
                self._reported[rank] = result
                if len(self._reported) == self._num_workers:
                    self._outcome = self._outcome or self._reported[0]
                self._changed.notify_all()

    async def lose(self, failure: StageFailed) -> None:
        """The workers are of no use any more: fails the order that is out. Of one group, the first reason stays."""
        async with self._changed:
            if not self._is_lost:
                self._is_lost = True
                self._outcome = self._outcome or failure
                self._changed.notify_all()

    async def close(self) -> bool:
        """Send home every rank that asks for an order from now on; whether there is any."""
        async with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            return await self.num_seated() > 0

    async def num_seated(self) -> int:
        """How many workers of the group at work have started."""
        return 0 if self._is_lost else len(self._seated)

    def _require(self, group: int) -> None:
        if group != self._group or self._is_lost:
            raise GroupLost("another worker of this group was lost, and all are replaced")

    def _is_at_work(self, group: int) -> bool:
        return group == self._group and not self._is_lost and not self._is_closed
