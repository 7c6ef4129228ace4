"""What of a step and of a stage's result goes to W&B, and under which keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from espalier.stages.result import StageResult
from espalier.tracking.record import StepRecord

AXIS = "trainer/step"
"""The axis of everything: steps over the whole run. W&B's own counter only ever grows, so it cannot serve."""

Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]
"""Columns and rows."""

_GIB = 2**30


def step_values(record: StepRecord) -> dict[str, float | int]:
    """One row of the history. Losses of two stages may share no scale, so each has a curve of its own too."""
    return {
        AXIS: record.global_step,
        "loss": record.loss,
        **{f"loss/{name}": value for name, value in record.terms.items()},
        "lr": record.lr,
        "gradient_norm": record.gradient_norm,
        "tokens": record.tokens,
        "tokens_per_second": record.tokens_per_second,
        "peak_gib": record.peak_bytes / _GIB,
        "attempt": record.attempt,
        f"stage/{record.stage}/loss": record.loss,
        f"stage/{record.stage}/step": record.step,
    }


def result_values(result: StageResult) -> dict[str, Any]:
    """A stage's cost and whatever numbers it measured, for the summary."""
    cost = result.cost
    values = {
        "status": result.status,
        "tokens": cost.tokens,
        "samples": cost.samples,
        "flops": cost.flops,
        "seconds": cost.seconds,
        "peak_gib": cost.peak_bytes / _GIB,
        **_numbers(result.metrics),
    }
    return {f"stage/{result.stage}/{name}": value for name, value in values.items()}


def stage_table(results: Iterable[StageResult]) -> Table:
    """A row per stage: what it cost."""
    columns = ("stage", "kind", "status", "tokens", "samples", "flops", "seconds", "peak_bytes")
    costs = [(r, r.cost) for r in results]
    return columns, [
        (r.stage, r.kind, r.status, cost.tokens, cost.samples, cost.flops, cost.seconds, cost.peak_bytes)
        for r, cost in costs
    ]


def model_table(result: StageResult) -> Table:
    """A row per model that an evaluation measured."""
    columns = (
        "parameters",
        "perplexity",
        "nll",
        "tokens",
        "flops_per_token",
        "tokens_per_second",
        "peak_bytes",
    )
    models: dict[str, dict[str, Any]] = result.metrics["models"]
    return ("model", *columns), [(name, *(model.get(c) for c in columns)) for name, model in models.items()]


def _numbers(metrics: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[f"{prefix}{name}"] = value
    return found
