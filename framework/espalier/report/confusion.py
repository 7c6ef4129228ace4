"""The confusion matrix of the evaluated model, or its most frequent mistakes when there are many classes."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nlargest

from espalier.report.run import RunRecord
from espalier.report.tables import Cell, Grid
from espalier.stages.result import StageResult

_LARGEST_MATRIX = 16
_MOST_MISTAKES = 20


@dataclass(frozen=True)
class Confusion:
    """A table and its caption."""

    sentence: str
    grid: Grid


def confusion(run: RunRecord, evaluation: StageResult) -> Confusion | None:
    """The confusion table of the evaluated model; None when there are no classes."""
    measured = evaluation.measured
    name = measured.model if measured else ""
    counts: list[list[int]] | None = measured.models.get(name, {}).get("confusion") if measured else None
    if not counts:
        return None
    known = run.shown(evaluation.stage).classes
    names = known if len(known) == len(counts) else tuple(f"class {number}" for number in range(len(counts)))
    if len(counts) > _LARGEST_MATRIX:
        sentence = f"The most frequent mistakes of {name} among {len(counts)} classes."
        return Confusion(sentence, _mistakes(counts, names))
    return Confusion(f"What {name} answers: rows are labels, columns answers.", _matrix(counts, names))


def _matrix(counts: list[list[int]], names: tuple[str, ...]) -> Grid:
    rows = []
    for label, row in zip(names, counts, strict=True):
        whole = sum(row)
        rows.append((Cell(label), *(Cell(str(count), share=count / whole if whole else 0.0) for count in row)))
    return Grid(("label", *names), tuple(rows))


def _mistakes(counts: list[list[int]], names: tuple[str, ...]) -> Grid:
    wrong = [
        (count, label, answer)
        for label, row in enumerate(counts)
        for answer, count in enumerate(row)
        if count and answer != label
    ]
    rows = tuple(
        (Cell(names[label]), Cell(names[answer]), Cell(str(count), share=count / sum(counts[label])))
        for count, label, answer in nlargest(_MOST_MISTAKES, wrong, key=lambda one: one[0])
    )
    return Grid(("label", "answered", "samples"), rows)
