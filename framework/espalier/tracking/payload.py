"""The keys, values and tables that are sent to trackers.

The part of a key before its first slash is the group that W&B shows it in:

```
train/    loss, learning rate, gradient norm, tokens       loss/     each term of the loss
perf/     seconds, tokens/s, memory                        progress/ stage and model: steps at stages and growths
stage/    loss, metrics and results by stage               weights/  measurements of sample weights by stage
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.tracking.epochs import EpochRecord
from espalier.tracking.record import StepRecord
from espalier.tracking.sample_reader import heaviest, listed_samples, sample_answers, sample_names

AXIS = "trainer/step"
"""The x axis of every metric: steps over the whole run. W&B's own counter cannot go back, which a resume needs."""

Row = dict[str, Any]
"""Key -> value."""

Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]
"""Columns and rows."""

_TEXT_COLUMNS = ("parameters", "perplexity", "nll", "tokens", "flops_per_token", "tokens_per_second", "peak_bytes")
_GIB = 2**30


def step_values(record: StepRecord) -> Row:
    """The values logged for a step. The loss is also logged by stage, as stages may have different losses."""
    values = {
        AXIS: record.global_step,
        "train/loss": record.loss,
        **{f"loss/{name}": value for name, value in record.terms.items()},
        "train/lr": record.lr,
        "train/gradient_norm": record.gradient_norm,
        "train/tokens": record.tokens,
        "perf/tokens_per_second": record.tokens_per_second,
        "perf/step_seconds": record.step_seconds,
        "perf/peak_gib": record.peak_bytes / _GIB,
        "progress/attempt": record.attempt,
        f"stage/{record.stage}/loss": record.loss,
        f"stage/{record.stage}/step": record.step,
    }
    return values if record.depth is None else values | {"train/depth": record.depth}


class PlanMarks:
    """What is logged with each step to mark where stages begin and models grow: curves that rise there."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = RunFolder(run_folder)
        self._known: dict[str, Row] = {}

    def of(self, stage: str) -> Row:
        """The stage's place in the plan, from 1, and layers and parameters of its model; empty for an unknown stage."""
        if stage not in self._known:
            places = {entry.name: (number, entry) for number, entry in enumerate(self._folder.plan(), start=1)}
            number, entry = places.get(stage, (0, None))
            shape = (entry.shape or {}) if entry else {}
            sizes = {f"progress/{name}": shape[name] for name in ("layers", "parameters") if name in shape}
            self._known[stage] = {"progress/stage": number, **sizes} if number else {}
        return self._known[stage]


def epoch_values(record: EpochRecord) -> Row:
    """The values logged for the end of an epoch: validation metrics and measurements of the correction."""
    stage = f"stage/{record.stage}"
    return {
        AXIS: record.global_step,
        f"{stage}/epoch": record.epoch,
        **{f"{stage}/valid/{name}": value for name, value in record.metrics.items()},
        **{f"{weights_group(record.stage)}/{name}": value for name, value in record.correction.items()},
    }


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The values that are numbers, without the axis, for trackers that have one of their own."""
    return {name: float(one) for name, one in values.items() if isinstance(one, int | float) and name != AXIS}


def weights_group(stage: str) -> str:
    """What the keys of a stage's sample weights begin with."""
    return f"weights/{stage}"


def weight_histogram(weights: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """A histogram of the sample weights: counts [64] and bin edges [65]."""
    return np.histogram(weights, bins=64)


def heaviest_table(
    run_folder: Path, record: EpochRecord, weights: NDArray[np.float32], class_names: Sequence[str]
) -> Table:
    """The 50 samples with the largest weights after an epoch, largest first; unknown cells are None.

    Args:
        weights: [N] of this epoch.
        class_names: empty when unknown; classes are then shown by their numbers.
    """
    chosen = heaviest(weights, 50)
    path, listed = run_folder / str(record.samples), listed_samples(run_folder, record.stage)
    rows = [listed.get(sample, {}) for sample in chosen.tolist()]
    columns = (
        sample_names(run_folder, record.stage, chosen),
        ["\n".join(filter(None, (row["text"], row["pair"]))) if row else None for row in rows],
        [row.get("label") for row in rows],
        sample_answers(path, "teacher", chosen, class_names),
        sample_answers(path, "student", chosen, class_names),
        weights[chosen].tolist(),
    )
    return ("name", "text", "label", "teacher", "student", "weight"), list(zip(*columns, strict=True))


def result_values(result: StageResult) -> Row:
    """A stage's cost and all numbers among its metrics, for the run's summary."""
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
    """A table of costs with a row for each stage."""
    columns = ("stage", "kind", "status", "tokens", "samples", "flops", "seconds", "peak_bytes")
    costs = [(r, r.cost) for r in results]
    return columns, [
        (r.stage, r.kind, r.status, cost.tokens, cost.samples, cost.flops, cost.seconds, cost.peak_bytes)
        for r, cost in costs
    ]


def model_table(result: StageResult) -> Table:
    """A table with a row for each evaluated model; on labelled data a column for each metric, the watched one first."""
    measured = result.measured
    assert measured is not None
    models = measured.models
    columns: tuple[str, ...] = _TEXT_COLUMNS
    if measured.watched is not None:
        numbers = (name for model in models.values() for name in _numbers(model))
        columns = tuple(dict.fromkeys([measured.watched, *numbers]))
    return ("model", *columns), [(name, *(model.get(c) for c in columns)) for name, model in models.items()]


def _numbers(metrics: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[f"{prefix}{name}"] = value
    return found
