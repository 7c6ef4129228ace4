"""Write and read the Parquet table of an epoch: one row for each sample, with its weight, loss and predictions.

Size of a row: 11 bytes for classes where many weights are equal, else 14; 20 for a regression, 7 for text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from espalier.storage.local import LocalStorage
from espalier.tracking.sample_reader import sample_column, table_refused

if TYPE_CHECKING:  # pyarrow starts threads on import, and only runs that weight samples need it
    import pyarrow


@dataclass(frozen=True)
class SampleTable:
    """The columns of one epoch; row i is sample i. Columns after `loss` are None for text.

    Attributes:
        weight: [N] float32, factor of the loss on the label (on the teacher's signal where only that is weighted).
        loss: [N] float32, the student's loss on the label; for text its divergence from the teacher.
        boost: [N] float32, `weight` without the trust in the label, which is 0 where a label is excluded.
        teacher: [N] the teacher's predictions, int16 classes or float32 values; None without a teacher.
        student: [N] the student's predictions, the same.
        belief: [N] float32, 0 to 1, the confidence that the label is right, from teacher and student so far.
        agrees: [N] bool, whether student and teacher predict the same.
    """

    weight: NDArray[np.float32]
    loss: NDArray[np.float32]
    boost: NDArray[np.float32] | None = None
    teacher: NDArray[np.generic] | None = None
    student: NDArray[np.generic] | None = None
    belief: NDArray[np.float32] | None = None
    agrees: NDArray[np.bool_] | None = None


def coarse(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round [N] values to three significant digits, which halves their size in a compressed file."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2048.0) / 2048.0, exponent).astype(np.float32)


def write_samples(path: Path, table: SampleTable, *, data: str) -> None:
    """Write an epoch's table atomically.

    Args:
        data: key of the samples; a later run that uses these weights must have the same.
    """
    import pyarrow

    columns = {name: values for name, values in vars(table).items() if values is not None}
    columns = {"sample": np.arange(len(table.weight), dtype=np.int32), **columns}
    _write(path, pyarrow.table(columns).replace_schema_metadata({"espalier.data": data}))


def read_samples(path: Path) -> SampleTable:
    """Read a table that `write_samples` wrote; columns of newer versions are ignored.

    Raises:
        RefusedInput: the file is no table of samples.
    """
    found = {field.name: sample_column(path, field.name) for field in fields(SampleTable)}
    weight, loss = found.pop("weight"), found.pop("loss")
    if weight is None or loss is None:
        raise table_refused(path, "it has no column `weight` or `loss`")
    return SampleTable(weight, loss, **found)


def write_names(path: Path, names: Sequence[str]) -> None:
    """Write the name of each sample, in order of their numbers."""
    import pyarrow

    _write(path, pyarrow.table({"name": pyarrow.array(names, pyarrow.string())}))


def _write(path: Path, table: pyarrow.Table) -> None:
    import pyarrow.parquet

    encodings = {"sample": "DELTA_BINARY_PACKED"} if "sample" in table.column_names else {}
    encodings |= {field.name: "BYTE_STREAM_SPLIT" for field in table.schema if field.type == pyarrow.float32()}
    few = [field.name for field in table.schema if field.type == pyarrow.int16()]
    made = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, made, compression="zstd", use_dictionary=few, column_encoding=encodings)
    files = LocalStorage(path.parent)
    files.make_folder(".")
    files.replace(path.name, made.getvalue().to_pybytes())
