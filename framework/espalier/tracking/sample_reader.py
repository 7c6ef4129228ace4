"""Read the records that a run keeps of its samples: columns of an epoch's table, sample names, lists with texts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from espalier.config.faults import RefusedInput
from espalier.storage.records import unreadable
from espalier.storage.regular_file import open_regular
from espalier.tracking.csv_cells import cell_text
from espalier.tracking.epochs import list_path, names_path

COLUMNS = ("name", "sample", "doubt", "label", "teacher", "student", "loss", "weights", "text", "pair")
"""Columns of the CSV lists of samples."""

ADDED_COLUMNS = ("probability", "why")
"""Columns that lists of earlier versions do not have: the probability of the teacher's answer, and a sentence."""

CONFUSED_COLUMNS = ("given", "answered", "samples", "probability", "noise")
"""Columns of the CSV list of confused classes."""

Row = dict[str, str]
"""One row of a CSV list: column -> text."""

_MOST_SAMPLES = 2**31
_SHARE = re.compile(r"[0-9]+(\.[0-9]+)?")
_REMEDY = "the file as a stage wrote it; bring back a copy, or remove it, and what it tells is left out"
_LONGEST_FIELD = 2**31 - 1  # Python's default bound of a CSV field, 128 KiB, is less than the length of some texts


def sample_column(path: Path, name: str) -> NDArray[Any] | None:
    """Read one column [N] of an epoch's table of samples; None when the table has no such column.

    Raises:
        RefusedInput: the file is no table of samples, or the column does not hold numbers.
    """
    import pyarrow.parquet

    with reading_table(path), open_regular(path) as file:
        found = pyarrow.parquet.ParquetFile(file)
        if "sample" not in found.schema_arrow.names or found.metadata.num_rows > _MOST_SAMPLES:
            raise table_refused(path, "it has no column `sample`, or too many rows")
        if name not in found.schema_arrow.names:
            return None
        column = found.read(columns=[name])[name].to_numpy()
    if column.ndim != 1 or column.dtype.kind not in "biuf":
        raise table_refused(path, f"`{name}` is no column of numbers")
    return column


def weight_column(path: Path) -> NDArray[np.float32]:
    """The column `weight` [N] of an epoch's table, at least one row.

    Raises:
        RefusedInput: the file is no table of samples, has no such column, or no rows.
    """
    weights = sample_column(path, "weight")
    if weights is None or not len(weights):
        raise table_refused(path, "it has no column `weight`, or no rows")
    return weights


@contextmanager
def reading_table(path: Path) -> Iterator[None]:
    """Turn the exceptions that pyarrow raises for a damaged file into `RefusedInput`."""
    import pyarrow

    try:
        yield
    except FileNotFoundError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        if isinstance(error, RefusedInput):
            raise
        raise table_refused(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from None


def table_refused(path: Path, reason: str) -> RefusedInput:
    """The error for a file that is no table of samples."""
    return unreadable(path, what="table of samples", reason=reason, remedy=_REMEDY)


def heaviest(weights: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Indices of the `most` largest weights, largest first; equal weights in order of their index."""
    return np.argsort(-weights, kind="stable")[:most]


def sample_names(run_folder: Path, stage: str, samples: NDArray[np.int64]) -> list[str]:
    """The names of `samples` from the user's data; their numbers when the data has no names."""
    import pyarrow.parquet

    path = run_folder / names_path(stage)
    if not path.exists():
        return [str(name) for name in samples]
    with reading_table(path), open_regular(path) as file:
        return [str(name) for name in pyarrow.parquet.read_table(file)["name"].take(samples).to_pylist()]


def sample_answers(
    path: Path, side: Literal["teacher", "student"], samples: NDArray[np.int64], class_names: Sequence[str]
) -> list[str | None]:
    """The predictions of teacher or student for `samples`, as class names or numbers; None without a prediction.

    Args:
        path: an epoch's table of samples.
        class_names: empty when unknown; classes are then shown by their numbers.
    """
    answers = sample_column(path, side)
    if answers is None:
        return [None] * len(samples)
    if len(samples) and not 0 <= min(samples) <= max(samples) < len(answers):
        raise table_refused(path, f"it has {len(answers)} rows, and sample {max(samples)} is asked for")
    chosen = answers[samples].tolist()
    is_known = [isinstance(one, int) and one < len(class_names) for one in chosen]
    return [class_names[one] if known else f"{one:g}" for one, known in zip(chosen, is_known, strict=True)]


def listed_samples(run_folder: Path, stage: str) -> dict[int, Row]:
    """The rows of both lists (suspects and heaviest) by sample number, as of the newest epoch."""
    rows = [*read_list(run_folder, stage, "suspects"), *read_list(run_folder, stage, "heaviest")]
    return {int(row["sample"]): row for row in rows}


def trust_note(correction: Mapping[str, float]) -> str:
    """A caution about the list of suspects when the teacher's signal was not fully trusted; empty otherwise.

    Args:
        correction: measurements of the last epoch, from its record; `heard` is the trust, 0 to 1.
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
    """Read the first `most` rows of a list of samples, as written at the end of the newest epoch; empty without one.

    Raises:
        RefusedInput: a column is missing, or a row has no sample number.
    """
    path = run_folder / list_path(stage, name)
    rows = _read_rows(path, COLUMNS, most)
    for number, row in enumerate(rows, start=1):
        if not (row["sample"].isascii() and row["sample"].isdecimal() and len(row["sample"]) < 19):
            raise _list_refused(path, f"row {number} names no sample by its number")
    return [{name: cell_text(row.get(name, "")) for name in (*COLUMNS, *ADDED_COLUMNS)} for row in rows]


def read_confused(run_folder: Path, stage: str, most: int) -> list[Row]:
    """Read the first `most` rows of the list of confused classes, most frequent first; empty without one.

    Raises:
        RefusedInput: a column is missing, or a number is none.
    """
    path = run_folder / list_path(stage, "confused")
    rows = _read_rows(path, CONFUSED_COLUMNS, most)
    for number, row in enumerate(rows, start=1):
        if not row["samples"].isdecimal() or not all(_SHARE.fullmatch(row[name]) for name in ("probability", "noise")):
            raise _list_refused(path, f"row {number} has a number that is none")
    return [{name: cell_text(row[name]) for name in CONFUSED_COLUMNS} for row in rows]


def _read_rows(path: Path, columns: Sequence[str], most: int | None) -> list[Row]:
    """The first rows of a CSV list that has these columns; empty without the file."""
    usual = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
            rows = list(islice(csv.DictReader(text, restval=""), most))
    except FileNotFoundError:
        return []
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise _list_refused(path, str(error)) from None
    finally:
        csv.field_size_limit(usual)
    if rows and (missing := [one for one in columns if one not in rows[0]]):
        raise _list_refused(path, f"it has no column `{missing[0]}`")
    return rows


def _list_refused(path: Path, reason: str) -> RefusedInput:
    return unreadable(path, what="list of samples", reason=reason, remedy=_REMEDY)
