"""Goodput: how many seconds of a run were useful, redone, or spent on saving, restarting, hanging and waiting."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

from espalier.tracking.time_log import TimeEntry

_ENDS_AN_ATTEMPT = ("waiting", "restarting")


@dataclass(frozen=True)
class Goodput:
    """The seconds during which a driver ran, each counted under exactly one heading.

    Attributes:
        useful: work that is part of the result.
        redone: work that was lost with a failed attempt and had to be done again.
        saving: steps waited for a save.
        restarting: from a failed attempt to the next attempt's order.
        hanging: from the last progress to the detection of a hang.
        waiting: for the cluster, workers, imports and loading of models.
    """

    useful: float = 0.0
    redone: float = 0.0
    saving: float = 0.0
    restarting: float = 0.0
    hanging: float = 0.0
    waiting: float = 0.0

    @property
    def wall(self) -> float:
        """All seconds, without those in which no driver ran."""
        return sum(astuple(self))

    @property
    def ratio(self) -> float:
        """Useful seconds over wall seconds; 0 before any time has passed."""
        return self.useful / self.wall if self.wall else 0.0


def measure_goodput(entries: Sequence[TimeEntry], *, now: float) -> Goodput:
    """Sum the seconds of a time log by what they were spent on.

    The run is in an entry's state until the next entry. When a later attempt at a stage begins at step j, the
    stage's earlier work after step j counts as redone.

    Args:
        entries: sorted by time.
        now: unix seconds; the end of the last entry's state, unless the run is stopped.
    """
    seconds: dict[str, float] = defaultdict(float)
    works: dict[str, _Work] = defaultdict(_Work)
    end = TimeEntry(max([now, *(entry.time for entry in entries)]), "stopped")
    for entry, following in pairwise([*_without_late(entries), end]):
        passed = following.time - entry.time
        if entry.state == "working":
            works[entry.stage].add(entry.step, passed)
        elif entry.state != "stopped":
            seconds[entry.state] += passed
        if entry.state in _ENDS_AN_ATTEMPT:
            for work in works.values():
                work.interrupted = True
    useful = sum(work.useful for work in works.values())
    return Goodput(useful=useful, redone=sum(work.redone for work in works.values()), **seconds)


def _without_late(entries: Sequence[TimeEntry]) -> Iterator[TimeEntry]:
    """Drop entries that a late worker wrote after the driver stopped and before it started again (`waiting`)."""
    stopped = False
    for entry in entries:
        if stopped and entry.state != "waiting":
            continue
        stopped = entry.state == "stopped"
        yield entry


class _Work:
    """The work of one stage: intervals (first step, seconds) that still count, and the seconds of lost ones."""

    def __init__(self) -> None:
        self.redone = 0.0
        self.interrupted = False
        self._intervals: list[tuple[int, float]] = []

    @property
    def useful(self) -> float:
        return sum(seconds for _, seconds in self._intervals)

    def add(self, step: int, seconds: float) -> None:
        """Add an interval that begins at `step`; intervals of later steps, or interrupted ones of this, are lost."""
        while self._intervals and self._is_lost(self._intervals[-1][0], step):
            self.redone += self._intervals.pop()[1]
        self._intervals.append((step, seconds))
        self.interrupted = False

    def _is_lost(self, began: int, step: int) -> bool:
        return began > step or (self.interrupted and began == step)
