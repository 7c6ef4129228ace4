"""The report's table of where the run's time went, with the goodput."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.report.tables import Cell, Grid
from espalier.tracking.goodput import Goodput
from espalier.tracking.number_format import duration_text

_PLACES = (
    ("useful", "work that is part of the outcome"),
    ("redone", "lost with an attempt, or done again after it"),
    ("saving", "steps waited for a save"),
    ("restarting", "from a failure to the next order"),
    ("hanging", "from the last progress to the alarm"),
    ("waiting", "for the cluster, workers, imports and models"),
)


@dataclass(frozen=True)
class TimeUse:
    """The goodput as a sentence and as a table of seconds."""

    sentence: str
    grid: Grid


def time_use(goodput: Goodput | None) -> TimeUse | None:
    """None for a run without a time log."""
    if goodput is None or not goodput.wall:
        return None
    sentence = f"Goodput {_percent(goodput.ratio)}: {duration_text(goodput.useful)} of {duration_text(goodput.wall)}."
    rows = tuple(_row(name, note, goodput) for name, note in _PLACES)
    total = (Cell("wall time", "while a driver ran"), Cell(f"{goodput.wall:.1f}"), Cell(""))
    return TimeUse(sentence, Grid(("time", "seconds", "share"), (*rows, total)))


def _row(name: str, note: str, goodput: Goodput) -> tuple[Cell, ...]:
    seconds = getattr(goodput, name)
    share = seconds / goodput.wall
    return Cell(name, note), Cell(f"{seconds:.1f}"), Cell(_percent(share), share=share)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
