"""Several trainings beside each other: loss against tokens, FLOPs and seconds, and what reaching a loss took."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.report.changes import signed_percent
from espalier.report.charts import Axis, Look, Series, line_chart
from espalier.report.curves import tick_text
from espalier.report.lines import Line, Point, lines_of
from espalier.report.run import RunRecord
from espalier.report.tables import NOTHING, Cell, Grid
from espalier.storage.local import LocalStorage
from espalier.tracking.figures import count_text, duration_text, flops_text, number_text

_ROOM = Path(__file__).parent
HEAD = ("training", "tokens", "compute", "time", "final loss", "validation", "compute to the same", "time to the same")

_OVER: tuple[tuple[str, Callable[[Point], float], Callable[[float], str]], ...] = (
    ("tokens", lambda point: point.tokens, tick_text),
    ("floating-point operations", lambda point: point.flops, flops_text),
    ("seconds", lambda point: point.seconds, duration_text),
)


@dataclass(frozen=True)
class Comparison:
    """What is shown: a table, charts over three measures, names in the order of their colours."""

    grid: Grid
    charts: tuple[tuple[str, Markup], ...]
    legend: tuple[str, ...]
    sentence: str


def baseline_of(lines: Sequence[Line], asked: str | None = None) -> Line:
    """The line that others are held against: the one asked for, one called baseline, or the first.

    Raises:
        RefusedInput: no such line.
    """
    labels = [line.label for line in lines]
    if asked is not None and asked not in labels:
        raise RefusedInput([Fault("--baseline", asked, f"one of {', '.join(labels)}", nearest(asked, labels))])
    with_loss = [line for line in lines if line.final_loss is not None]
    named = [line for line in lines if line.label == asked or (asked is None and line.label.endswith("baseline"))]
    return [*named, *with_loss, *lines][0]


def compare(lines: Sequence[Line], baseline: Line) -> Comparison:
    """Hold each line against the baseline's final loss; at least one line.

    Raises:
        RefusedInput: losses that are counted in different things.
    """
    for line in lines:
        if line.measure != baseline.measure:
            wanted = f"trainings whose loss is counted in {baseline.measure}, as that of {baseline.label} is"
            raise RefusedInput([Fault("runs", line.label, wanted, given=f"with {line.label!r} is in {line.measure}")])
    rows = tuple(_row(line, baseline) for line in lines)
    charts = tuple((f"loss over {label}", _chart(lines, label, place, text)) for label, place, text in _OVER)
    return Comparison(Grid(HEAD, rows), charts, tuple(line.label for line in lines), _sentence(lines, baseline))


def _sentence(lines: Sequence[Line], baseline: Line) -> str:
    """What the table holds the trainings against, and what it does not tell."""
    goal, measure = baseline.final_loss, baseline.measure
    said = [
        f"{baseline.label} learns from a teacher alone, so it has no final loss that others could be held against."
        if goal is None
        else f"The same: the final training loss of {baseline.label}, {goal:.4f} {measure}, as the mean over the last "
        "steps of a model in its whole depth."
    ]
    if any(not math.isfinite(point.loss) for line in lines for point in line.points):
        said.append(f"Steps that learn from a teacher alone have no loss in {measure} and are left out of the curves.")
    if any(line.growths for line in lines):
        said.append("Marks show where a model was grown or pruned.")
    if len({line.vocabulary for line in lines} - {0}) > 1 and measure == "nats per token":
        said.append("The vocabularies differ in size, so their tokens are not alike and their losses do not compare.")
    return " ".join(said)


def compare_growth(run: RunRecord) -> Comparison | None:
    """The trainings of one run beside each other, where a model grew in one."""
    lines = lines_of(run)
    has_grown = any(stage.declared.past == "grown" for stage in run.stages) and any(line.growths for line in lines)
    return compare(lines, baseline_of(lines)) if has_grown else None


def write_page(comparison: Comparison, path: Path) -> None:
    """One self-contained HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_ROOM), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    style = Markup((_ROOM / "page.css").read_text(encoding="utf-8"))
    page = environment.get_template("compare.html").render(style=style, lines=comparison)
    LocalStorage(path.parent).replace(path.name, page.encode())


def _row(line: Line, baseline: Line) -> tuple[Cell, ...]:
    last, base, goal = line.points[-1], baseline.points[-1], baseline.final_loss
    reached = None if goal is None else line.reaches(goal)
    is_held = line is not baseline and goal is not None and line.final_loss is not None
    compute = time = Cell("never" if is_held else NOTHING)
    if reached is not None and line is not baseline:
        compute = Cell(flops_text(reached.flops), _signed(reached.flops, base.flops))
        time = Cell(duration_text(reached.seconds), _signed(reached.seconds, base.seconds))
    return (
        Cell(line.label),
        Cell(count_text(last.tokens)),
        Cell(flops_text(last.flops), _signed(last.flops, base.flops) if line is not baseline else ""),
        Cell(duration_text(last.seconds), _signed(last.seconds, base.seconds) if line is not baseline else ""),
        Cell(NOTHING if line.final_loss is None else f"{line.final_loss:.4f}"),
        Cell(NOTHING if line.nll is None else f"{line.nll:.4f}"),
        compute,
        time,
    )


def _signed(value: float, base: float) -> str:
    return signed_percent(value / base) if base else ""


def _chart(lines: Sequence[Line], label: str, place: Callable[[Point], float], text: Callable[[float], str]) -> Markup:
    series = [Series(line.label, [(place(point), point.loss) for point in line.points]) for line in lines]
    marks = tuple((place(point), word) for line in lines for point, word in line.growths)
    return line_chart(series, Axis(label, text), Axis(f"loss, {lines[0].measure}", number_text), look=Look(marks=marks))
