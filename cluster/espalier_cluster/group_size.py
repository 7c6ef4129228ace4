"""How many workers a group has: as many as fit, within what the job allows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from espalier.jobs.job import WorkersConfig
from espalier_cluster.preflight import free_room

_SETTLE_SECONDS = 20.0  # for a lost group's resources to become free, and for a node that is only restarting
_LOOK_SECONDS = 1.0


class GroupSize:
    """The number of workers of the next group.

    A job that sets `workers.min` goes on with fewer workers where not all fit, and with more once they do. Without it
    nobody is asked: a group of `workers.count` waits until it fits.
    """

    def __init__(
        self,
        workers: WorkersConfig,
        counts: Sequence[int] | None = None,
        *,
        stop: threading.Event | None = None,
        free: Callable[[WorkersConfig], int] = free_room,
        settle_seconds: float = _SETTLE_SECONDS,
    ) -> None:
        """Store the settings.

        Args:
            counts: the numbers of workers that are allowed, rising; left out: `workers.count` alone.
            stop: set when nobody wants to wait any more.
            free: how many workers fit beside what is on the cluster.
        """
        self.workers = workers
        self.counts = tuple(counts or [workers.count])
        self._stop = stop or threading.Event()
        self._free = free
        self._settle_seconds = settle_seconds

    @property
    def is_elastic(self) -> bool:
        return len(self.counts) > 1

    def choose(self) -> int:
        """The largest number that fits, while no group of ours is there; the smallest allowed one when none does.

        Waits a little for room for the largest.
        """
        if not self.is_elastic:
            return self.counts[-1]
        deadline = time.monotonic() + self._settle_seconds
        while (free := self._free(self.workers)) < self.counts[-1] and time.monotonic() < deadline:
            if self._stop.wait(_LOOK_SECONDS):
                break
        return max((count for count in self.counts if count <= free), default=self.counts[0])

    def larger(self, count: int) -> int | None:
        """The largest number that fits once a group of `count` has left; None when it is no larger than that."""
        if not self.is_elastic or count == self.counts[-1]:
            return None
        fitting = max((one for one in self.counts if one <= count + self._free(self.workers)), default=count)
        return fitting if fitting > count else None
