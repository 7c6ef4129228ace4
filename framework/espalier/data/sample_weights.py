"""Weights per sample from a file: a run's own record of an epoch, or a table of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from espalier.config.faults import Fault, RefusedInput


def read_sample_weights(path: str, *, num_samples: int, data: str, setting: str) -> NDArray[np.float64]:
    """[N] weights above or at 0, mean 1, in the order of the samples.

    Args:
        path: of a parquet file with the columns `sample` (0 to N - 1) and `weight`.
        data: fingerprint of the data set; a file that says which it is of is held to it.

    Raises:
        RefusedInput: a file that cannot be read, of other samples, or with weights that are no numbers or below 0.
    """
    try:
        table = pyarrow.parquet.read_table(Path(path), columns=["sample", "weight"])
        numbers = table["sample"].to_numpy().astype(np.int64)
        weights = table["weight"].to_numpy().astype(np.float64)
    except (pyarrow.ArrowException, ValueError, TypeError, KeyError, OSError) as error:
        reason = str(error).splitlines()[0]
        allowed = f"a parquet file with the numeric columns `sample` and `weight` ({reason})"
        raise RefusedInput([Fault(setting, path, allowed)]) from error
    made_of = (table.schema.metadata or {}).get(b"espalier.data", data.encode()).decode()
    if made_of != data or not np.array_equal(np.sort(numbers), np.arange(num_samples)):
        given = f"has {len(numbers)} rows of another data set"
        allowed = f"one row for each of the {num_samples} training samples of this job; leave it out to begin alike"
        raise RefusedInput([Fault(setting, path, allowed, given=given)])
    bad = int((~np.isfinite(weights) | (weights < 0)).sum())
    if bad or not weights.sum() > 0:
        given = f"has {bad} weights that are NaN, infinite or below 0" if bad else "has no weight above 0"
        raise RefusedInput([Fault(setting, path, "finite weights of at least 0, some above it", given=given)])
    ordered = np.empty(num_samples)
    ordered[numbers] = weights
    return ordered / ordered.mean()
