"""Reading what a run says of its samples: columns of an epoch's file, names, lists with texts."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from espalier.tracking.csv_cells import cell_text
from espalier.tracking.epochs import list_path, names_path

COLUMNS = ("name", "sample", "doubt", "label", "teacher", "student", "loss", "weights", "text", "pair")
"""Of the lists of samples."""

Row = dict[str, str]
"""A sample in a list, by column."""

_LONGEST_FIELD = 2**31 - 1  # of a csv file; Python's own bound of 128 KiB is less than some texts have


def sample_column(path: Path, name: str) -> NDArray[Any] | None:
    """[N] one column of an epoch's file, and nothing else of it; None where it has no such column."""
    import pyarrow.parquet

    if name not in pyarrow.parquet.read_schema(path).names:
        return None
    return pyarrow.parquet.read_table(path, columns=[name])[name].to_numpy()


def heaviest(weights: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """The samples that weigh most, at most so many, heaviest first; of equals the one that comes first."""
    return np.argsort(-weights, kind="stable")[:most]


def sample_names(run_folder: Path, stage: str, samples: NDArray[np.int64]) -> list[str]:
    """What the user calls `samples`; their numbers where nobody named them."""
    import pyarrow.parquet

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


def trust_note(correction: Mapping[str, float]) -> str:
    """What the list of suspects is worth, where the teacher's signal was not trusted in full; else empty.

    Args:
        correction: figures of the last epoch, as its record has them.
    """
    trust = correction.get("heard", 1.0)
    if trust <= 0.0:
        return (
            "No signal beside the labels is trusted in the last epoch: there is none, it knows too little, or too few "
            "labels look wrong. These are the labels that the models fit worst, and no evidence that they are wrong."
        )
    if trust < 1.0:
        return f"{trust:.0%} of the teacher's signal is trusted in the last epoch: take these labels as guesses."
    return ""


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
            return [_as_it_was(row) for row in islice(csv.DictReader(file), most)]
    finally:
        csv.field_size_limit(usual)


def _as_it_was(row: Row) -> Row:
    return {column: cell_text(cell) if isinstance(cell, str) else cell for column, cell in row.items()}
