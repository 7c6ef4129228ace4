"""The report's tables of models and costs, as rows of formatted cells."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from espalier.report.changes import signed_percent
from espalier.report.metrics import METRIC_WORDS, change_text, metric_names, metric_text
from espalier.report.run import PlannedStage, RunRecord
from espalier.stages.result import StageResult
from espalier.tracking.number_format import bytes_text, count_text, duration_text, flops_text, perplexity_text

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
NOTHING = "–"  # noqa: RUF001


@dataclass(frozen=True)
class Cell:
    """One cell: its text, a small note after it, and a share (0 to 1) drawn as a bar."""

    text: str
    note: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Grid:
    """A table: the first cell of a row names it, the others are formatted numbers."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Sample:
    """The text that each model generated for one prompt: (model, text)."""

    prompt: str
    texts: tuple[tuple[str, str], ...]


def _ratio(value: float, base: float) -> str:
    return signed_percent(value / base) if base else ""


@dataclass(frozen=True)
class _Measure:
    """A column of the table of models: how its values and their changes are formatted."""

    key: str
    title: str
    text: Callable[[Any], str]
    change: Callable[[float, float], str] = _ratio


_MEASURES = (
    _Measure("parameters", "parameters", count_text),
    _Measure("perplexity", "perplexity", lambda value: perplexity_text(value, 2)),
    _Measure("nll", "nats per token", lambda value: f"{value:.4f}"),
    _Measure("flops_per_token", "compute per token", flops_text),
    _Measure("tokens_per_second", "tokens/s", count_text),
    _Measure("seconds", "time", duration_text),
    _Measure("peak_bytes", "peak memory", bytes_text),
)


def model_grid(run: RunRecord, evaluation: StageResult) -> Grid:
    """A table with a row for each model of an evaluation, with changes against the first, usually their ancestor."""
    models = _models(run, evaluation)
    base = models[0][1]
    measures = [
        one for one in (*_metrics(evaluation, base), *_MEASURES) if any(one.key in model for _, model in models)
    ]
    rows = tuple((Cell(name), *(_cell(one, model, base) for one in measures)) for name, model in models)
    return Grid(("model", *(one.title for one in measures)), rows)


def _metrics(evaluation: StageResult, model: dict[str, Any]) -> list[_Measure]:
    """The columns of metrics of labelled data, the watched metric first; none for text."""
    if evaluation.measured is None or evaluation.measured.watched is None:
        return []
    names = metric_names(model, evaluation.measured.watched)
    return [_Measure(n, METRIC_WORDS[n], partial(metric_text, n), partial(change_text, n)) for n in names]


def _models(run: RunRecord, evaluation: StageResult) -> list[tuple[str, dict[str, Any]]]:
    """(name, measurements) of each model, in the order in which the plan makes them."""
    models = evaluation.measured.models if evaluation.measured else {}
    order = [stage.name for stage in run.stages if stage.name in models]
    return [(name, models[name]) for name in dict.fromkeys([*order, *models])]


def samples(run: RunRecord, evaluation: StageResult) -> list[Sample]:
    """The generated text of all models, by prompt."""
    texts: dict[str, list[tuple[str, str]]] = {}
    for name, model in _models(run, evaluation):
        for sample in model.get("samples", ()):
            texts.setdefault(sample["prompt"], []).append((name, sample["text"]))
    return [Sample(prompt, tuple(written)) for prompt, written in texts.items()]


def cost_grid(run: RunRecord) -> Grid:
    """A table of each stage's cost, with the planned FLOPs as a note."""
    total = sum(result.cost.seconds for result in run.results.values())
    rows = [_cost_row(run, stage, total) for stage in run.stages]
    return Grid(("stage", "state", "tokens", "samples", "compute", "time", "peak memory"), (*rows, _total(run)))


def settings_rows(values: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of everything in `run.json`, with nested names joined by dots."""
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        inner = settings_rows(value) if isinstance(value, dict) else [("", _clock_text(value))]
        rows += [(f"{name}.{key}" if key else name, text) for key, text in inner]
    return rows


def _clock_text(value: object) -> str:
    """A value as text; a UTC timestamp is converted to the local time zone."""
    if isinstance(value, str) and _TIMESTAMP.fullmatch(value):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(value).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    return str(value)


def _cell(measure: _Measure, model: dict[str, Any], base: dict[str, Any]) -> Cell:
    value, reference = model.get(measure.key), base.get(measure.key)
    if value is None:
        return Cell(measure.text(None) if measure.key == "perplexity" and measure.key in model else NOTHING)
    change = "" if reference is None or value == reference else measure.change(value, reference)
    return Cell(measure.text(value), change)


def _cost_row(run: RunRecord, stage: PlannedStage, total_seconds: float) -> tuple[Cell, ...]:
    name, state = Cell(stage.name, stage.kind), Cell(run.states[stage.name])
    planned = f"planned {flops_text(stage.flops)}" if stage.flops else ""
    result, steps = run.results.get(stage.name), run.steps[stage.name]
    if result is not None:
        cost = result.cost
        return (
            name,
            state,
            _unless_zero(cost.tokens, count_text),
            _unless_zero(cost.samples, count_text),
            Cell(_unless_zero(cost.flops, flops_text).text, planned),
            Cell(duration_text(cost.seconds), share=cost.seconds / total_seconds if total_seconds else None),
            _unless_zero(cost.peak_bytes, bytes_text),
        )
    if not steps:
        return name, state, Cell(NOTHING), Cell(NOTHING), Cell(NOTHING, planned), Cell(NOTHING), Cell(NOTHING)
    seconds = sum(step.step_seconds for step in steps)
    tokens = Cell(count_text(steps[-1].tokens), "so far")
    time = Cell(duration_text(seconds), "so far")
    return (
        name,
        state,
        tokens,
        Cell(NOTHING),
        Cell(NOTHING, planned),
        time,
        Cell(bytes_text(steps[-1].peak_bytes)),
    )


def _unless_zero(value: float, text: Callable[[float], str]) -> Cell:
    return Cell(text(value) if value else NOTHING)


def _total(run: RunRecord) -> tuple[Cell, ...]:
    costs = [result.cost for result in run.results.values()]
    return (
        Cell("all stages"),
        Cell(f"{len(costs)} of {len(run.stages)}"),
        Cell(count_text(sum(cost.tokens for cost in costs))),
        Cell(count_text(sum(cost.samples for cost in costs))),
        Cell(flops_text(sum(cost.flops for cost in costs))),
        Cell(duration_text(sum(cost.seconds for cost in costs))),
        Cell(bytes_text(max((cost.peak_bytes for cost in costs), default=0))),
    )
