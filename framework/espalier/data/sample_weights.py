"""Read sample weights from a parquet file, and the names of samples to exclude from a text file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from espalier.config.faults import Fault, RefusedInput, nearest


def read_sample_weights(path: str, *, num_samples: int, data: str, setting: str) -> NDArray[np.float64]:
    """Read [N] weights of at least 0, scaled to a mean of 1, in the order of the samples.

    Args:
        path: a parquet file with the columns `sample` (0 to N - 1) and `weight`. In a run's own table of an epoch
            `boost` is read instead, as the stage computes label trust and the other factors itself.
        data: key of the samples; a file that has a key must have this one.

    Raises:
        RefusedInput: a file that cannot be read, of other samples, or with weights that are not finite or below 0.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        column = "boost" if "boost" in pyarrow.parquet.read_schema(Path(path)).names else "weight"
        table = pyarrow.parquet.read_table(Path(path), columns=["sample", column])
        numbers = table["sample"].to_numpy().astype(np.float64)
        weights = table[column].to_numpy().astype(np.float64)
    except (pyarrow.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        allowed = f"a parquet file with the numeric columns `sample` and `weight` ({reason})"
        raise RefusedInput([Fault(setting, path, allowed)]) from error
    made_of = (table.schema.metadata or {}).get(b"espalier.data", data.encode()).decode()
    if made_of != data or not np.array_equal(np.sort(numbers), np.arange(num_samples)):
        given = f"names {path}, which has {len(numbers)} rows of another data set"
        allowed = f"one row for each of the {num_samples} training samples of this job; leave it out to begin alike"
        raise RefusedInput([Fault(setting, path, allowed, given=given)])
    bad = int((~np.isfinite(weights) | (weights < 0)).sum())
    if bad or not weights.any():
        what = f"{bad} weights that are NaN, infinite or below 0" if bad else "no weight above 0"
        allowed = "finite weights of at least 0, some above it"
        raise RefusedInput([Fault(setting, path, allowed, given=f"names {path}, which has {what}")])
    ordered = np.empty(num_samples)
    ordered[numbers.astype(np.int64)] = weights / weights.max()  # so that the sum of huge weights does not overflow
    return ordered / ordered.mean()


def read_excluded(path: str, names: Sequence[str], *, setting: str) -> NDArray[np.bool_]:
    """[N] bool, True for samples whose name is a line of a text file.

    Raises:
        RefusedInput: a file that cannot be read, or a line that is no sample's name.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        allowed = f"a text file in UTF-8 with the name of a training sample a line ({error})"
        raise RefusedInput([Fault(setting, path, allowed)]) from error
    listed = {line.strip() for line in lines if line.strip()}
    if unknown := sorted(listed - set(names)):
        given = f"names {path}, where {unknown[0]!r} stands, which no training sample is called"
        allowed = "names as the id column has them, or without one the numbers of rows; take the line out"
        raise RefusedInput([Fault(setting, path, allowed, nearest(unknown[0], names), given=given)])
    return np.array([name in listed for name in names])
