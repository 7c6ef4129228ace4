"""Print a plan and the results of a run as tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from rich.console import Console

from espalier.models.families import shape_of
from espalier.planning.memory import WorkerMemory
from espalier.planning.prepare import PreparedJob
from espalier.planning.preview import StagePreview
from espalier.report.metrics import METRIC_WORDS, metric_names, metric_text
from espalier.report.tables import Grid
from espalier.stages.result import Measurements, StageResult
from espalier.tracking.gap import gap_words, told_gap
from espalier.tracking.goodput import Goodput
from espalier.tracking.number_format import bytes_text, count_text, perplexity_text
from espalier_cluster.tables import show_table, table_fits
from espalier_cluster.terminal import say

_STAGE_HEAD = (
    *("stage", "kind", "from", "layers x hidden,\nFFN, heads/KV"),
    *("parameters", "steps", "tokens", "FLOPs", "on disk"),
)

Columns = Mapping[str, Sequence[str]]
"""Heading -> a cell of each row."""


def show_plan(console: Console, prepared: PreparedJob, done: Sequence[str] = ()) -> None:
    """Print what the job will do: stages and shapes, then the memory of one worker for each stage that trains."""
    job = prepared.job
    place = "one GPU each" if job.workers.gpus_each else "CPU"
    say(console, f"{job.name}: {len(prepared.previews)} stages on {job.workers.count} workers, {place}")
    show_remarks(console, prepared.remarks)
    show_table(
        console, _STAGE_HEAD, [_stage_row(preview, done) for preview in prepared.previews], right=_STAGE_HEAD[4:]
    )
    trained = {preview.stage.name: preview.memory for preview in prepared.previews if preview.memory is not None}
    if trained:
        _show_memory(console, trained)
    total = sum(preview.flops or 0 for preview in prepared.previews)
    disk = sum(preview.bytes_on_disk for preview in prepared.previews)
    say(
        console,
        f"in all {count_text(total)} FLOPs (teacher included), at most {bytes_text(disk)} on disk below {job.storage}",
    )


def show_remarks(console: Console, remarks: Sequence[str]) -> None:
    """Print the planner's remarks; warnings in yellow."""
    for text in remarks:
        say(console, text, style="yellow" if text.startswith("warning") else None)


def show_grid(console: Console, grid: Grid, caption: str) -> None:
    """Print a table of the report."""
    rows = [[f"{cell.text}{f' ({cell.note})' if cell.note else ''}" for cell in row] for row in grid.rows]
    show_table(console, grid.headings, rows)
    say(console, caption)


def _stage_row(preview: StagePreview, done: Sequence[str]) -> tuple[str, ...]:
    return (
        f"{preview.stage.name} (done)" if preview.stage.name in done else preview.stage.name,
        preview.stage.config.kind,
        ", ".join(preview.stage.inputs) or "files",
        _shape(preview) if preview.makes_model else "",
        _parameters(preview) if preview.makes_model else "",
        f"{preview.steps:,}" if preview.steps else "",
        count_text(preview.tokens) if preview.tokens else "",
        count_text(preview.flops) if preview.flops else "",
        bytes_text(preview.bytes_on_disk) if preview.bytes_on_disk else "",
    )


def _parameters(preview: StagePreview) -> str:
    trained = f"\n{preview.trained.num_parameters:,} trained" if preview.trained else ""
    return f"{preview.parameters:,}{trained}"


def _shape(preview: StagePreview) -> str:
    shape = shape_of(preview.config)
    return f"{shape.layers} x {shape.hidden}, {shape.ffn}, {shape.heads}/{shape.kv_heads}"


def _show_memory(console: Console, trained: Mapping[str, WorkerMemory]) -> None:
    """Print a column for each stage if the terminal is wide enough, else a row for each."""
    title, names = "memory of one worker", [field.name for field in fields(WorkerMemory)]
    columns = {name.replace("_", " "): [getattr(memory, name) for memory in trained.values()] for name in names}
    columns |= {"peak": [memory.total for memory in trained.values()]}
    rows = [(name, *map(bytes_text, values)) for name, values in columns.items()]
    if table_fits(console, (title, *trained), rows):
        show_table(console, (title, *trained), rows)
    else:
        headings, *by_stage = zip(("stage", *trained), *rows, strict=True)
        show_table(console, headings, by_stage, title=title)


def show_outcome(console: Console, results: Sequence[StageResult]) -> None:
    """Print a table of models for each evaluation of a run."""
    for result in results:
        measured = result.measured
        if measured is None:
            continue
        rows = _models(measured)
        columns = _on_labels(console, rows, measured.watched) if measured.watched else _on_text(rows)
        show_table(console, *_side_by_side(rows, columns))
        closed = told_gap(measured)
        if closed is not None:
            say(console, f"healing {gap_words(closed)} that pruning opened (log-perplexity)")


def _on_text(rows: Mapping[str, dict[str, Any]]) -> Columns:
    return {
        "parameters": [f"{row['parameters']:,}" for row in rows.values()],
        "perplexity": [perplexity_text(row["perplexity"], 3) for row in rows.values()],
        "tokens": [f"{row['tokens']:,}" for row in rows.values()],
        "FLOPs/token": [count_text(row["flops_per_token"]) for row in rows.values()],
        "tokens/s": [f"{row['tokens_per_second']:,.0f}" for row in rows.values()],
    }


def _on_labels(console: Console, rows: Mapping[str, dict[str, Any]], decides: str) -> Columns:
    """The watched metric, as many other metrics as fit into the terminal, size and speed."""
    watched, *others = metric_names(next(iter(rows.values())), decides)
    last = {"parameters": [f"{row['parameters']:,}" for row in rows.values()]}
    if all("tokens_per_second" in row for row in rows.values()):
        last["tokens/s"] = [f"{row['tokens_per_second']:,.0f}" for row in rows.values()]
    for num_others in range(len(others), -1, -1):
        shown = (watched, *others[:num_others])
        columns = {METRIC_WORDS[name]: [metric_text(name, row[name]) for row in rows.values()] for name in shown} | last
        if table_fits(console, *_side_by_side(rows, columns)):
            break
    return columns


def _models(measured: Measurements) -> dict[str, dict[str, Any]]:
    """Model -> measurements, the evaluated model last, below those that it is compared with."""
    models = measured.models
    return {name: models[name] for name in sorted(models, key=lambda name: name == measured.model)}


def _side_by_side(names: Iterable[str], columns: Columns) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and rows."""
    return ("model", *columns), list(zip(names, *columns.values(), strict=True))


def show_time(console: Console, goodput: Goodput) -> None:
    """Print the goodput and the lost seconds on one line; nothing for a run without a time log."""
    if goodput.wall:
        say(console, f"goodput {goodput_text(goodput)}")


def goodput_text(goodput: Goodput) -> str:
    """As `93 %: 812.0 s useful of 873.0 s; 20.0 s redone`; of a run with a time log."""
    lost = [field.name for field in fields(Goodput) if field.name != "useful" and getattr(goodput, field.name)]
    text = f"{100 * goodput.ratio:.3g} %: {goodput.useful:.1f} s useful of {goodput.wall:.1f} s"
    rest = ", ".join(f"{getattr(goodput, name):.1f} s {name}" for name in lost)
    return f"{text}; {rest}" if rest else text


def plan_json(previews: Sequence[StagePreview]) -> str:
    """The plan as JSON, as in the run's folder."""
    return json.dumps([preview.to_json() for preview in previews], indent=2)
