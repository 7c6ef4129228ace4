"""A plan and its outcome, as tables for a person."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from espalier.models.families import shape_of
from espalier.planning.memory import WorkerMemory
from espalier.planning.prepare import PreparedJob
from espalier.planning.preview import StagePreview
from espalier.report.metrics import METRIC_WORDS, metric_names, metric_text
from espalier.report.tables import Grid
from espalier.stages.result import StageResult
from espalier.tracking.figures import bytes_text, count_text, perplexity_text, plain_text
from espalier.tracking.ledger import Ledger

_NO_BOUND = 10_000  # columns: wider than any table


def show_plan(console: Console, prepared: PreparedJob, done: Sequence[str] = ()) -> None:
    """What the job will do: stages and shapes, then memory of one worker of each stage that trains."""
    job = prepared.job
    place = "one GPU each" if job.workers.gpus_each else "CPU"
    console.print(f"{job.name}: {len(prepared.previews)} stages on {job.workers.count} workers, {place}")
    show_remarks(console, prepared.remarks)
    console.print(_stages(prepared.previews, done))
    trained = [preview for preview in prepared.previews if preview.memory is not None]
    if trained:
        console.print(_memory(trained))
    total = sum(preview.flops or 0 for preview in prepared.previews)
    disk = sum(preview.bytes_on_disk for preview in prepared.previews)
    text = (
        f"in all {count_text(total)} FLOPs (teacher included), at most {bytes_text(disk)} on disk below {job.storage}"
    )
    console.print(text, soft_wrap=True)


def show_remarks(console: Console, remarks: Sequence[str]) -> None:
    """What there is to know of the data; warnings stand out."""
    for text in remarks:
        style = "yellow" if text.startswith("warning") else None
        console.print(plain_text(text), style=style, markup=False, highlight=False, soft_wrap=True)


def show_grid(console: Console, grid: Grid, caption: str) -> None:
    """A table of the report's page, in the terminal."""
    table = _table(grid.head[0])
    for title in grid.head[1:]:
        table.add_column(title, justify="right")
    for row in grid.rows:
        table.add_row(*(f"{cell.text}{f' ({cell.note})' if cell.note else ''}" for cell in row))
    console.print(table)
    console.print(caption, soft_wrap=True)


def _stages(previews: Sequence[StagePreview], done: Sequence[str]) -> Table:
    table = _table("stage", "kind", "from", "layers x hidden, FFN, heads/KV")
    for header in ("parameters", "steps", "tokens", "FLOPs", "on disk"):
        table.add_column(header, justify="right", no_wrap=True)
    for preview in previews:
        table.add_row(
            f"{preview.stage.name} (done)" if preview.stage.name in done else preview.stage.name,
            preview.stage.config.kind,
            ", ".join(preview.stage.inputs) or "files",
            _shape(preview) if preview.makes_model else "",
            f"{preview.parameters:,}" if preview.makes_model else "",
            f"{preview.steps:,}" if preview.steps else "",
            count_text(preview.tokens) if preview.tokens else "",
            count_text(preview.flops) if preview.flops else "",
            bytes_text(preview.bytes_on_disk) if preview.bytes_on_disk else "",
        )
    return table


def _shape(preview: StagePreview) -> str:
    shape = shape_of(preview.config)
    return f"{shape.layers} x {shape.hidden}, {shape.ffn}, {shape.heads}/{shape.kv_heads}"


def _memory(trained: Sequence[StagePreview]) -> Table:
    table = _table("memory of one worker")
    for preview in trained:
        table.add_column(preview.stage.name, justify="right")
    memories = [preview.memory for preview in trained if preview.memory]
    for field in fields(WorkerMemory):
        table.add_row(field.name.replace("_", " "), *(bytes_text(getattr(memory, field.name)) for memory in memories))
    table.add_row("peak", *(bytes_text(memory.total) for memory in memories), style="bold")
    return table


def _table(*headers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in headers:
        table.add_column(header, no_wrap=True)
    return table


def show_outcome(console: Console, results: Sequence[StageResult]) -> None:
    """Models side by side, from the evaluations of a run."""
    for result in results:
        if not result.metrics.get("models"):
            continue
        console.print(_on_labels(console, result) if "watched" in result.metrics else _on_text(result))
        closed = result.metrics.get("gap_closed")
        if closed is not None:
            console.print(f"healing closed {closed:.0%} of the gap that pruning opened (log-perplexity)")


def _on_text(result: StageResult) -> Table:
    rows = _models(result)
    return _side_by_side(
        rows,
        {
            "parameters": [f"{row['parameters']:,}" for row in rows.values()],
            "perplexity": [perplexity_text(row["perplexity"], 3) for row in rows.values()],
            "tokens": [f"{row['tokens']:,}" for row in rows.values()],
            "FLOPs/token": [count_text(row["flops_per_token"]) for row in rows.values()],
            "tokens/s": [f"{row['tokens_per_second']:,.0f}" for row in rows.values()],
        },
    )


def _on_labels(console: Console, result: StageResult) -> Table:
    """The watched metric, as many of the others as the terminal is wide, the size."""
    rows = _models(result)
    watched, *others = metric_names(next(iter(rows.values())), result.metrics["watched"])
    last = {"parameters": [f"{row['parameters']:,}" for row in rows.values()]}
    if all("tokens_per_second" in row for row in rows.values()):
        last["tokens/s"] = [f"{row['tokens_per_second']:,.0f}" for row in rows.values()]
    for num_others in range(len(others), -1, -1):
        shown = (watched, *others[:num_others])
        metrics = {METRIC_WORDS[name]: [metric_text(name, row[name]) for row in rows.values()] for name in shown}
        table = _side_by_side(rows, metrics | last)
        if console.measure(table, options=console.options.update(width=_NO_BOUND)).maximum <= console.width:
            break
    return table


def _models(result: StageResult) -> dict[str, dict[str, Any]]:
    """The evaluated model last, below what it is held against."""
    models = result.metrics["models"]
    return {name: models[name] for name in sorted(models, key=lambda name: name == result.metrics["model"])}


def _side_by_side(names: Iterable[str], columns: Mapping[str, Sequence[str]]) -> Table:
    table = _table("model")
    for header in columns:
        table.add_column(header, justify="right")
    for row in zip(names, *columns.values(), strict=True):
        table.add_row(*row)
    return table


def show_time(console: Console, ledger: Ledger) -> None:
    """Where the run's time went, on one line; nothing when no time was marked."""
    if not ledger.wall:
        return
    lost = [field.name for field in fields(Ledger) if field.name != "useful" and getattr(ledger, field.name)]
    text = f"goodput {100 * ledger.goodput:.3g} %: {ledger.useful:.1f} s useful of {ledger.wall:.1f} s"
    rest = ", ".join(f"{getattr(ledger, name):.1f} s {name}" for name in lost)
    console.print(f"{text}; {rest}" if rest else text, soft_wrap=True, highlight=False)


def plan_json(previews: Sequence[StagePreview]) -> str:
    """The plan as the run's folder keeps it."""
    return json.dumps([preview.to_json() for preview in previews], indent=2)
