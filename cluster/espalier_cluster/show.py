"""A plan and its outcome, as tables for a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from espalier.models.families import shape_of
from espalier.planning.memory import WorkerMemory
from espalier.planning.prepare import PreparedJob
from espalier.planning.preview import StagePreview
from espalier.stages.result import StageResult
from espalier.tracking.figures import bytes_text, count_text


def show_plan(console: Console, prepared: PreparedJob, done: Sequence[str] = ()) -> None:
    """What the job will do: stages and shapes, then memory of one worker of each stage that trains."""
    job = prepared.job
    gpus = f", {job.workers.gpus_each} GPU each" if job.workers.gpus_each else ", CPU"
    console.print(Text(f"{job.name}: {len(prepared.previews)} stages on {job.workers.count} workers{gpus}"))
    console.print(_stages(prepared.previews, done))
    for preview in prepared.previews:
        if preview.memory is not None:
            console.print(_memory(preview.stage.name, preview.memory))
    total = sum(preview.flops or 0 for preview in prepared.previews)
    disk = sum(preview.bytes_on_disk for preview in prepared.previews)
    console.print(f"in all {count_text(total)} FLOPs (teacher included), at most {bytes_text(disk)} below {job.storage}")


def _stages(previews: Sequence[StagePreview], done: Sequence[str]) -> Table:
    table = Table("stage", "kind", "from", "shape", "parameters", "steps", "tokens", "FLOPs", "on disk", "")
    for name in ("parameters", "steps", "tokens", "FLOPs", "on disk"):
        next(column for column in table.columns if column.header == name).justify = "right"
    for preview in previews:
        config = preview.stage.config
        table.add_row(
            preview.stage.name,
            config.kind,
            ", ".join(preview.stage.inputs) or str(getattr(config, "model", "")),
            _shape(preview) if preview.makes_model else "",
            f"{preview.parameters:,}" if preview.makes_model else "",
            f"{preview.steps:,}" if preview.steps else "",
            count_text(preview.tokens) if preview.tokens else "",
            count_text(preview.flops) if preview.flops else "",
            bytes_text(preview.bytes_on_disk) if preview.bytes_on_disk else "",
            "done" if preview.stage.name in done else "",
        )
    return table


def _shape(preview: StagePreview) -> str:
    shape = shape_of(preview.config)
    return f"{shape.layers} x {shape.hidden}, FFN {shape.ffn}, heads {shape.heads}/{shape.kv_heads}"


def _memory(stage: str, memory: WorkerMemory) -> Table:
    table = Table(title=f"{stage}: memory of one worker", title_justify="left")
    for field in fields(memory):
        table.add_column(field.name.replace("_", " "), justify="right")
    table.add_column("peak", justify="right", style="bold")
    table.add_row(*(bytes_text(getattr(memory, f.name)) for f in fields(memory)), bytes_text(memory.total))
    return table


def show_outcome(console: Console, results: Sequence[StageResult]) -> None:
    """Models side by side, from the evaluations of a run."""
    for result in results:
        models = result.metrics.get("models")
        if not models:
            continue
        table = Table("model", title=f"{result.stage}", title_justify="left")
        for header in ("parameters", "perplexity", "tokens", "FLOPs/token", "tokens/s"):
            table.add_column(header, justify="right")
        for name in sorted(models, key=lambda name: name == result.metrics["model"]):
            row = models[name]
            table.add_row(
                name,
                f"{row['parameters']:,}",
                f"{row['perplexity']:.3f}",
                f"{row['tokens']:,}",
                count_text(row["flops_per_token"]),
                f"{row['tokens_per_second']:,.0f}",
            )
        console.print(table)
        closed = result.metrics.get("gap_closed")
        if closed is not None:
            console.print(f"healing closed {closed:.0%} of the gap that pruning opened (log-perplexity)")


def plan_json(previews: Sequence[StagePreview]) -> str:
    """The plan as the run's folder keeps it."""
    return json.dumps([preview.to_json() for preview in previews], indent=2)


def read_results(folder: Path, names: Sequence[str]) -> list[StageResult]:
    """Committed results among these stages."""
    from espalier.stages.run_folder import RunFolder

    found = (RunFolder(folder).result(name) for name in names)
    return [result for result in found if result is not None]
