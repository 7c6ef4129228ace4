"""Tables with a row for each sample: written, read back, and their size on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from espalier.tracking.samples import SampleTable, coarse, read_samples, write_names, write_samples

COUNT = 100_000


def table(count: int, *, kind: str = "classes") -> SampleTable:
    """As incompressible as a real one: a weight, a loss and a belief of its own for every sample."""
    draw = np.random.default_rng(7)
    floats = {"weight": draw.lognormal(size=count), "loss": draw.exponential(size=count)}
    columns: dict[str, Any] = {name: values.astype(np.float32) for name, values in floats.items()}
    if kind == "text":
        return SampleTable(**columns)
    answers = draw.integers(0, 150, (2, count)) if kind == "classes" else draw.normal(size=(2, count))
    answers = answers.astype(np.int16 if kind == "classes" else np.float32)
    belief, agrees = draw.random(count).astype(np.float32), draw.random(count) < 0.5
    columns["boost"] = coarse(draw.lognormal(size=count))
    return SampleTable(**columns, teacher=answers[0], student=answers[1], belief=belief, agrees=agrees)


@pytest.mark.parametrize("kind", ["classes", "values", "text"])
def test_what_is_written_is_read_back(tmp_path: Path, kind: str) -> None:
    wrote = table(101, kind=kind)
    write_samples(tmp_path / "deep" / "epoch.parquet", wrote, data="abc")
    read = read_samples(tmp_path / "deep" / "epoch.parquet")
    for name, column in vars(wrote).items():
        found = getattr(read, name)
        if column is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, column)
            assert found.dtype == column.dtype, name


def test_the_file_says_which_sample_and_of_which_data(tmp_path: Path) -> None:
    write_samples(tmp_path / "epoch.parquet", table(101), data="abc")
    plain = pyarrow.parquet.read_table(tmp_path / "epoch.parquet")
    assert plain["sample"].to_pylist() == list(range(101))
    assert plain.schema.metadata[b"espalier.data"] == b"abc"


@pytest.mark.parametrize(("kind", "bound"), [("classes", 14.7), ("values", 20.0), ("text", 7.3)])
def test_a_sample_takes_few_bytes_and_a_million_that_many_times(tmp_path: Path, kind: str, bound: float) -> None:
    """Below 20 MB for a million samples; of the file's fixed part a thousandth of that."""
    bytes_of = {}
    for count in (COUNT // 2, COUNT):
        write_samples(tmp_path / "epoch.parquet", table(count, kind=kind), data="abc")
        bytes_of[count] = (tmp_path / "epoch.parquet").stat().st_size
    assert bytes_of[COUNT] < bound * COUNT
    assert bytes_of[COUNT] / bytes_of[COUNT // 2] == pytest.approx(2.0, rel=0.02)


def test_coarse_values_have_three_digits_from_zero_to_large() -> None:
    values = np.array([0.0, 1.0, 1e-30, 0.123456, 98765.4321, 1e30])
    np.testing.assert_allclose(coarse(values), values, rtol=5e-4)


def test_a_file_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "epoch.parquet"
    write_samples(path, table(11), data="abc")

    def full_disk(*_: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            write_samples(path, table(7), data="abc")
    assert len(read_samples(path).weight) == 11
    write_samples(path, table(7), data="abc")
    assert len(read_samples(path).weight) == 7 and [file.name for file in tmp_path.iterdir()] == ["epoch.parquet"]


def test_names_are_kept_in_order(tmp_path: Path) -> None:
    for names in (["b", "a", "ü 3"], []):
        write_names(tmp_path / "names.parquet", names)
        column = pyarrow.parquet.read_table(tmp_path / "names.parquet")["name"]
        assert column.to_pylist() == names and column.type == pyarrow.string()
