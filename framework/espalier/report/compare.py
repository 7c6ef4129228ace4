"""Compare trainings: loss against tokens, FLOPs and seconds, and the cost of reaching the baseline's final loss."""

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
from espalier.report.run import RunRecord
from espalier.report.stage_charts import tick_text
from espalier.report.tables import NOTHING, Cell, Grid
from espalier.report.training_curves import Point, TrainingCurve, training_curves_of
from espalier.storage.local import LocalStorage
from espalier.tracking.number_format import count_text, duration_text, flops_text, number_text

_TEMPLATES = Path(__file__).parent
HEADINGS = (
    "training",
    "tokens",
    "compute",
    "time",
    "final loss",
    "validation",
    "compute to the same",
    "time to the same",
)

_OVER: tuple[tuple[str, Callable[[Point], float], Callable[[float], str]], ...] = (
    ("tokens", lambda point: point.tokens, tick_text),
    ("floating-point operations", lambda point: point.flops, flops_text),
    ("seconds", lambda point: point.seconds, duration_text),
)


@dataclass(frozen=True)
class Comparison:
    """A comparison: a table, (title, chart) over tokens, FLOPs and seconds, the curves' names in order of colour."""

    grid: Grid
    charts: tuple[tuple[str, Markup], ...]
    legend: tuple[str, ...]
    sentence: str


def baseline_of(curves: Sequence[TrainingCurve], asked: str | None = None) -> TrainingCurve:
    """Choose the curve that others are compared with: the one asked for, else one called baseline, else the first.

    Raises:
        RefusedInput: no curve has the name that was asked for.
    """
    labels = [curve.label for curve in curves]
    if asked is not None and asked not in labels:
        raise RefusedInput([Fault("--baseline", asked, f"one of {', '.join(labels)}", nearest(asked, labels))])
    with_loss = [curve for curve in curves if curve.final_loss is not None]
    named = [curve for curve in curves if curve.label == asked or (asked is None and curve.label.endswith("baseline"))]
    return [*named, *with_loss, *curves][0]


def compare(curves: Sequence[TrainingCurve], baseline: TrainingCurve) -> Comparison:
    """Compare each of at least one curve with the baseline's final loss.

    Raises:
        RefusedInput: the losses have different units.
    """
    for curve in curves:
        if curve.measure != baseline.measure:
            wanted = f"trainings whose loss is counted in {baseline.measure}, as that of {baseline.label} is"
            raise RefusedInput(
                [Fault("runs", curve.label, wanted, given=f"with {curve.label!r} is in {curve.measure}")]
            )
    rows = tuple(_row(curve, baseline) for curve in curves)
    charts = tuple((f"loss over {label}", _chart(curves, label, place, text)) for label, place, text in _OVER)
    return Comparison(Grid(HEADINGS, rows), charts, tuple(curve.label for curve in curves), _sentence(curves, baseline))


def _sentence(curves: Sequence[TrainingCurve], baseline: TrainingCurve) -> str:
    """The caption: which loss the trainings are compared with, and the limits of the comparison."""
    goal, measure = baseline.final_loss, baseline.measure
    sentences = [
        f"{baseline.label} learns from a teacher alone, so it has no final loss that others could be held against."
        if goal is None
        else f"The same: the final training loss of {baseline.label}, {goal:.4f} {measure}, as the mean over the last "
        "steps of a model in its whole depth."
    ]
    if any(not math.isfinite(point.loss) for curve in curves for point in curve.points):
        sentences.append(
            f"Steps that learn from a teacher alone have no loss in {measure} and are left out of the curves."
        )
    if any(curve.growths for curve in curves):
        sentences.append("Marks show where a model was grown or pruned.")
    if len({curve.vocabulary for curve in curves} - {0}) > 1 and measure == "nats per token":
        sentences.append(
            "The vocabularies differ in size, so their tokens are not alike and their losses do not compare."
        )
    return " ".join(sentences)


def compare_growth(run: RunRecord) -> Comparison | None:
    """Compare the trainings of one run; None when no model of it grew."""
    curves = _most_alike(training_curves_of(run))
    has_grown = any(stage.declared.past == "grown" for stage in run.stages) and any(curve.growths for curve in curves)
    return compare(curves, baseline_of(curves)) if has_grown else None


def _most_alike(curves: Sequence[TrainingCurve]) -> list[TrainingCurve]:
    """The curves whose loss is counted as that of the first is: stages of a run may work on different data."""
    return [curve for curve in curves if curve.measure == curves[0].measure]


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the comparison as one self-contained HTML file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    style = Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8"))
    page = environment.get_template("compare.html").render(style=style, comparison=comparison)
    LocalStorage(path.parent).replace(path.name, page.encode())


def _row(curve: TrainingCurve, baseline: TrainingCurve) -> tuple[Cell, ...]:
    last, base, goal = curve.points[-1], baseline.points[-1], baseline.final_loss
    reached = None if goal is None else curve.reaches(goal)
    is_held = curve is not baseline and goal is not None and curve.final_loss is not None
    compute = time = Cell("never" if is_held else NOTHING)
    if reached is not None and curve is not baseline:
        compute = Cell(flops_text(reached.flops), _signed(reached.flops, base.flops))
        time = Cell(duration_text(reached.seconds), _signed(reached.seconds, base.seconds))
    return (
        Cell(curve.label),
        Cell(count_text(last.tokens)),
        Cell(flops_text(last.flops), _signed(last.flops, base.flops) if curve is not baseline else ""),
        Cell(duration_text(last.seconds), _signed(last.seconds, base.seconds) if curve is not baseline else ""),
        Cell(NOTHING if curve.final_loss is None else f"{curve.final_loss:.4f}"),
        Cell(NOTHING if curve.nll is None else f"{curve.nll:.4f}"),
        compute,
        time,
    )


def _signed(value: float, base: float) -> str:
    return signed_percent(value / base) if base else ""


def _chart(
    curves: Sequence[TrainingCurve], label: str, place: Callable[[Point], float], text: Callable[[float], str]
) -> Markup:
    series = [Series(curve.label, [(place(point), point.loss) for point in curve.points]) for curve in curves]
    marks = tuple((place(point), word) for curve in curves for point, word in curve.growths)
    return line_chart(
        series, Axis(label, text), Axis(f"loss, {curves[0].measure}", number_text), look=Look(marks=marks)
    )
