"""What of the record goes to W&B, and under which keys."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from espalier.stages.result import StageResult
from espalier.tracking.epochs import EpochRecord, list_path, names_path
from espalier.tracking.record import StepRecord

AXIS = "trainer/step"
"""The axis of everything: steps over the whole run. W&B's own counter only ever grows, so it cannot serve."""

Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]
"""Columns and rows."""

Row = dict[str, str]
"""A sample in a list: name, sample, doubt, label, teacher, student, loss, weights, text, pair."""

_TEXT_COLUMNS = ("parameters", "perplexity", "nll", "tokens", "flops_per_token", "tokens_per_second", "peak_bytes")
_LONGEST_FIELD = 2**31 - 1  # of a csv file; Python's own bound of 128 KiB is less than some texts have
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


def epoch_values(record: EpochRecord) -> dict[str, float | int]:
    """One row of the history: what was validated and what was revised at the end of an epoch."""
    stage = f"stage/{record.stage}"
    return {
        AXIS: record.global_step,
        f"{stage}/epoch": record.epoch,
        **{f"{stage}/valid/{name}": value for name, value in record.metrics.items()},
        **{f"{stage}/{name}": value for name, value in record.correction.items()},
    }


def weight_histogram(weights: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """How many samples [64] weigh how much: between neighbours of the edges [65]."""
    return np.histogram(weights, bins=64)


def heaviest_table(
    run_folder: Path, record: EpochRecord, weights: NDArray[np.float32], class_names: Sequence[str]
) -> Table:
    """The 50 samples that count most from the end of an epoch on, heaviest first; what is not known is None.

    Args:
        weights: [N] of this epoch.
        class_names: empty where they are not known; classes then go by their numbers.
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
    """A row per model that an evaluation measured; of labelled data with every metric, the watched one first."""
    models: dict[str, dict[str, Any]] = result.metrics["models"]
    columns = _TEXT_COLUMNS
    if "watched" in result.metrics:
        numbers = (name for model in models.values() for name in _numbers(model))
        columns = tuple(dict.fromkeys([result.metrics["watched"], *numbers]))
    return ("model", *columns), [(name, *(model.get(c) for c in columns)) for name, model in models.items()]


def _numbers(metrics: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[f"{prefix}{name}"] = value
    return found


def class_names(data: Mapping[str, Any]) -> tuple[str, ...]:
    """What the job's data calls its classes, in order; empty where it leaves that to the tables."""
    return tuple(data.get("names") or data.get("labels") or ())


def sample_column(path: Path, name: str) -> NDArray[Any] | None:
    """[N] one column of an epoch's file, and nothing else of it; None where it has no such column."""
    if name not in pyarrow.parquet.read_schema(path).names:
        return None
    return pyarrow.parquet.read_table(path, columns=[name])[name].to_numpy()


def heaviest(weights: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """The samples that weigh most, at most so many, heaviest first; of equals the one that comes first."""
    return np.argsort(-weights, kind="stable")[:most]


def sample_names(run_folder: Path, stage: str, samples: NDArray[np.int64]) -> list[str]:
    """What the user calls `samples`; their numbers where nobody named them."""
    path = run_folder / names_path(stage)
    names = pyarrow.parquet.read_table(path)["name"].take(samples).to_pylist() if path.exists() else samples
    return [str(name) for name in names]


def sample_answers(
    path: Path, side: Literal["teacher", "student"], samples: NDArray[np.int64], class_names: Sequence[str]
) -> list[str | None]:
    """What teacher or student answers on `samples`, in words; None without an answer.

    Args:
        path: file of an epoch.
        class_names: empty where they are not known; classes then go by their numbers.
    """
    answers = sample_column(path, side)
    if answers is None:
        return [None] * len(samples)
    chosen = answers[samples].tolist()
    is_known = [isinstance(one, int) and one < len(class_names) for one in chosen]
    return [class_names[one] if known else f"{one:g}" for one, known in zip(chosen, is_known, strict=True)]


def listed_samples(run_folder: Path, stage: str) -> dict[int, Row]:
    """What the lists say of a sample, by its number: its text, its label, and how it stood at the newest epoch."""
    rows = [*read_list(run_folder, stage, "suspects"), *read_list(run_folder, stage, "heaviest")]
    return {int(row["sample"]): row for row in rows}


def read_list(
    run_folder: Path, stage: str, name: Literal["suspects", "heaviest"], most: int | None = None
) -> list[Row]:
    """The first rows of a list of samples as the end of the newest epoch left it; none where there is no list."""
    path = run_folder / list_path(stage, name)
    if not path.exists():
        return []
    usual = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(islice(csv.DictReader(file), most))
    finally:
        csv.field_size_limit(usual)
