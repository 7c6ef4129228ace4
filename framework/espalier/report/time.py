"""Where the run's time went, as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.report.tables import Cell, Grid
from espalier.tracking.figures import duration_text
from espalier.tracking.ledger import Ledger

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
    """The ledger in one sentence and in a table."""

    sentence: str
    grid: Grid


def time_use(ledger: Ledger | None) -> TimeUse | None:
    """None for a run that marked no time."""
    if ledger is None or not ledger.wall:
        return None
    sentence = f"Goodput {_percent(ledger.goodput)}: {duration_text(ledger.useful)} of {duration_text(ledger.wall)}."
    rows = tuple(_row(name, note, ledger) for name, note in _PLACES)
    total = (Cell("wall time", "while a driver ran"), Cell(f"{ledger.wall:.1f}"), Cell(""))
    return TimeUse(sentence, Grid(("time", "seconds", "share"), (*rows, total)))


def _row(name: str, note: str, ledger: Ledger) -> tuple[Cell, ...]:
    seconds = getattr(ledger, name)
    share = seconds / ledger.wall
    return Cell(name, note), Cell(f"{seconds:.1f}"), Cell(_percent(share), share=share)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
