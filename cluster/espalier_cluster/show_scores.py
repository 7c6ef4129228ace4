"""Print what a model answers for new data, and how that differs from known data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from espalier.tracking.number_format import number_text
from espalier_cluster.tables import show_table
from espalier_cluster.terminal import say

if TYPE_CHECKING:  # it loads torch
    from espalier.audit.drift import Drift
    from espalier.audit.scoring import Scores

_MOST_CLASSES = 12
_LINE_SECONDS = 10.0


class ScoreProgress:
    """Prints a line now and then: the rows so far and how fast they go."""

    def __init__(self, console: Console) -> None:
        self._console, self._began = console, time.monotonic()
        self._said = self._began

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._said >= _LINE_SECONDS:
            self._said = now
            say(self._console, f"{done:,} rows, {done / (now - self._began):.0f} a second")


def show_scores(console: Console, scores: Scores, names: tuple[str, ...], *, max_tokens: int) -> None:
    """Print the distribution of answers, and the drift where it is known."""
    record, count = scores.record, len(scores.record.answers)
    cut = f"; {scores.num_cut:,} as long as the {max_tokens} tokens at which texts are cut" if scores.num_cut else ""
    say(console, f"{count:,} rows{cut}")
    if names:
        counts = np.bincount(record.answers.astype(np.int64), minlength=len(names))
        assert record.confidence is not None
        sums = np.bincount(record.answers.astype(np.int64), weights=record.confidence, minlength=len(names))
        order = np.argsort(-counts, kind="stable")[:_MOST_CLASSES]
        rows = [
            (names[i], f"{counts[i]:,}", f"{counts[i] / count:.1%}", f"{sums[i] / max(counts[i], 1):.3f}")
            for i in order
        ]
        show_table(console, ("answer", "rows", "share", "mean confidence"), rows)
    else:
        low, middle, high = np.quantile(record.answers, (0.05, 0.5, 0.95)).tolist()
        ends = f"5 % below {number_text(low)}, 5 % above {number_text(high)}"
        say(console, f"answers: median {number_text(middle)}, {ends}")
    if scores.drift is not None:
        show_drift(console, scores.drift)


def show_drift(console: Console, found: Drift) -> None:
    """Print every shift with its reading, and the classes whose share has changed most."""
    rows = [(one.what, f"{one.index:.3f}", f"{one.by_chance:.3f}", one.reading) for one in found.shifts]
    headings = ("drift of", "stability index", "by chance below", "reading")
    show_table(console, headings, rows, right=headings[1:3], title="against the validation samples of the run")
    changed = [one for one in found.classes if one.is_certain][:_MOST_CLASSES]
    if changed:
        cells = [(one.name, f"{one.before:.1%}", f"{one.now:.1%}") for one in changed]
        show_table(console, ("answered more or less often", "before", "now"), cells)
