"""Files with a row for each sample: what it counted for at the end of an epoch.

11 bytes each where many are raised alike, else 14; 20 of a regression, 7 of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from espalier.storage.local import LocalStorage
from espalier.tracking.notable import sample_column, table_refused

if TYPE_CHECKING:  # it starts threads when it is imported; only runs that weigh samples need it
    import pyarrow


@dataclass(frozen=True)
class SampleTable:
    """Columns of one epoch; row i is sample i.

    Attributes:
        weight: [N] float32, the factor of the loss on the label (on the signal where only that is weighed): the
            sample's own weight, class balance, boosting and label trust together.
        loss: [N] float32 of the student on the label; of text its divergence from the teacher.
        boost: [N] float32, the part of boosting alone; None of text, where it is the whole weight.
        teacher: [N] int16 classes, or float32 values, that the teacher answers; None without one.
        student: [N] the same of the student; None of text, like what follows.
        belief: [N] float32, 0 to 1, how far teacher and student have believed the label so far.
        agrees: [N] bool, whether student and teacher answer the same.
    """

    weight: NDArray[np.float32]
    loss: NDArray[np.float32]
    boost: NDArray[np.float32] | None = None
    teacher: NDArray[np.generic] | None = None
    student: NDArray[np.generic] | None = None
    belief: NDArray[np.float32] | None = None
    agrees: NDArray[np.bool_] | None = None


def coarse(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """[N] to three digits: what a file saves by it is half of their bytes."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2048.0) / 2048.0, exponent).astype(np.float32)


def write_samples(path: Path, table: SampleTable, *, data: str) -> None:
    """Write whole or not at all.

    Args:
        data: key of the samples; a later run that takes these weights is held to it.
    """
    import pyarrow

    columns = {name: values for name, values in vars(table).items() if values is not None}
    columns = {"sample": np.arange(len(table.weight), dtype=np.int32), **columns}
    _write(path, pyarrow.table(columns).replace_schema_metadata({"espalier.data": data}))


def read_samples(path: Path) -> SampleTable:
    """What `write_samples` wrote, without columns that a newer espalier has added.

    Raises:
        RefusedInput: it is something else.
    """
    found = {field.name: sample_column(path, field.name) for field in fields(SampleTable)}
    if found["weight"] is None or found["loss"] is None:
        raise table_refused(path, "it has no column `weight` or `loss`")
    return SampleTable(**found)


def write_names(path: Path, names: Sequence[str]) -> None:
    """What the user calls each sample."""
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
