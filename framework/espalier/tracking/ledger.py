"""Where a run's time went, to the second: what was useful, what had to be done again, what was lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise

from espalier.tracking.marks import Mark

_ENDS_AN_ATTEMPT = ("waiting", "restarting")


@dataclass(frozen=True)
class Ledger:
    """Seconds of the driver's starts, each in exactly one place.

    Attributes:
        useful: work that is part of what came out.
        redone: work that was lost with an attempt and had to be done again.
        saving: steps waited for a save.
        restarting: between a failed attempt and the next one's order.
        hanging: from the last progress to the moment a hang was noticed.
        waiting: for the cluster, workers, imports and models to load.
    """

    useful: float = 0.0
    redone: float = 0.0
    saving: float = 0.0
    restarting: float = 0.0
    hanging: float = 0.0
    waiting: float = 0.0

    @property
    def wall(self) -> float:
        """Seconds in all, without those between the driver's starts."""
        return sum(astuple(self))

    @property
    def goodput(self) -> float:
        """The share of the wall time that was useful; 0 before any time has passed."""
        return self.useful / self.wall if self.wall else 0.0


def account(marks: Sequence[Mark], *, now: float) -> Ledger:
    """Share out the time since the first mark.

    The run is in a mark's state until the next mark. When a stage's later attempt begins at step j, what the
    stage had worked on after reaching j is redone.

    Args:
        marks: by time.
        now: unix seconds; where the last mark's state ends, unless the run is stopped.
    """
    seconds: dict[str, float] = defaultdict(float)
    works: dict[str, _Work] = defaultdict(_Work)
    end = Mark(max([now, *(mark.time for mark in marks)]), "stopped")
    for mark, following in pairwise([*_without_late(marks), end]):
        passed = following.time - mark.time
        if mark.state == "working":
            works[mark.stage].go_on(mark.step, passed)
        elif mark.state != "stopped":
            seconds[mark.state] += passed
        if mark.state in _ENDS_AN_ATTEMPT:
            for work in works.values():
                work.interrupted = True
    useful = sum(work.useful for work in works.values())
    return Ledger(useful=useful, redone=sum(work.redone for work in works.values()), **seconds)


def _without_late(marks: Sequence[Mark]) -> Iterator[Mark]:
    """Between the driver's end and its next start, which is `waiting`, a late worker's marks open no time."""
    stopped = False
    for mark in marks:
        if stopped and mark.state != "waiting":
            continue
        stopped = mark.state == "stopped"
        yield mark


class _Work:
    """The work of one stage: pieces that still count, in the order of their steps, and the time of lost ones."""

    def __init__(self) -> None:
        self.redone = 0.0
        self.interrupted = False
        self._pieces: list[tuple[int, float]] = []

    @property
    def useful(self) -> float:
        return sum(seconds for _, seconds in self._pieces)

    def go_on(self, step: int, seconds: float) -> None:
        """Work from `step` on. After an interruption, pieces that began at this step or later are lost."""
        while self._pieces and self._is_lost(self._pieces[-1][0], step):
            self.redone += self._pieces.pop()[1]
        self._pieces.append((step, seconds))
        self.interrupted = False

    def _is_lost(self, began: int, step: int) -> bool:
        return began > step or (self.interrupted and began == step)
