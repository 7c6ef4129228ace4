"""Weights per sample, and names of samples, that a job takes from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from espalier.config.faults import RefusedInput
from espalier.data.sample_weights import read_excluded, read_sample_weights
from espalier.tracking.samples import SampleTable, write_samples

SETTING = "stages.heal.weights.initial"


def write(path: Path, **columns: Any) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def read(path: Path, *, num_samples: int = 3, data: str = "abc") -> np.ndarray:
    return read_sample_weights(str(path), num_samples=num_samples, data=data, setting=SETTING)


def refusal(path: Path, **settings: Any) -> str:
    with pytest.raises(RefusedInput) as refused:
        read(path, **settings)
    (fault,) = refused.value.faults
    assert fault.path == SETTING and fault.value == str(path) and str(path) in str(fault)
    return str(fault)


def test_weights_are_put_in_the_order_of_the_samples_with_mean_one(tmp_path: Path) -> None:
    path = write(tmp_path / "w.parquet", sample=[2, 0, 1], weight=[4.0, 0.0, 8.0], other=["x", "y", "z"])
    assert read(path).tolist() == [0.0, 2.0, 1.0]
    assert read(write(tmp_path / "i.parquet", sample=[0, 1, 2], weight=[1, 2, 3])).tolist() == [0.5, 1.0, 1.5]


def test_huge_weights_in_a_file_do_not_overflow(tmp_path: Path) -> None:
    assert read(write(tmp_path / "w.parquet", sample=[0, 1, 2], weight=[1.7e308] * 3)).tolist() == [1.0] * 3


def test_a_run_s_own_record_is_read_back(tmp_path: Path) -> None:
    weight = np.array([0.25, 2.0, 0.75], dtype=np.float32)
    write_samples(tmp_path / "epoch.parquet", SampleTable(weight=weight, loss=weight), data="abc")
    assert read(tmp_path / "epoch.parquet").tolist() == [0.25, 2.0, 0.75]
    said = refusal(tmp_path / "epoch.parquet", data="abd")
    assert "which has 3 rows of another data set; allowed: one row for each of the 3 training samples" in said


def test_the_boost_of_a_run_s_own_table_is_read(tmp_path: Path) -> None:
    """The stage that begins with it multiplies by trust itself, and an excluded label may count again."""
    boost = np.array([0.5, 1.0, 1.5], dtype=np.float32)
    table = SampleTable(weight=np.array([0.5, 0.0, 0.3], dtype=np.float32), loss=boost, boost=boost)
    write_samples(tmp_path / "epoch.parquet", table, data="abc")
    assert read(tmp_path / "epoch.parquet").tolist() == [0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    "numbers", [[0, 1], [0, 1, 2, 3], [0, 1, 1], [1, 2, 3], [0, 1, -2], [0.0, 1.0, 2.5], [0, 1, None]]
)
def test_rows_that_are_not_each_sample_once_are_refused(tmp_path: Path, numbers: list[Any]) -> None:
    path = write(tmp_path / "w.parquet", sample=numbers, weight=[1.0] * len(numbers))
    assert f"which has {len(numbers)} rows of another data set" in refusal(path)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0, float("nan"), -1.0], "which has 2 weights that are NaN, infinite or below 0"),
        ([1.0, None, 1.0], "which has 1 weights that are NaN, infinite or below 0"),
        ([1.0, float("inf"), 1.0], "which has 1 weights that are NaN, infinite or below 0"),
        ([0.0, 0.0, 0.0], "which has no weight above 0; allowed: finite weights of at least 0, some above it"),
    ],
)
def test_invalid_weights_are_refused(tmp_path: Path, weights: list[Any], said: str) -> None:
    assert said in refusal(write(tmp_path / "w.parquet", sample=[0, 1, 2], weight=weights))


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("sample,weight\n0,1\n")
    for path in (
        tmp_path / "absent.parquet",
        tmp_path / "text",
        write(tmp_path / "a.parquet", sample=[0, 1, 2]),
        write(tmp_path / "b.parquet", weight=[1.0, 1.0, 1.0]),
        write(tmp_path / "c.parquet", sample=[0, 1, 2], weight=["a", "b", "c"]),
        write(tmp_path / "d.parquet", sample=["x", "y", "z"], weight=[1.0, 1.0, 1.0]),
    ):
        assert "allowed: a parquet file with the numeric columns `sample` and `weight` (" in refusal(path)


def exclude(path: Path) -> list[bool]:
    return read_excluded(str(path), ("s1", "s 2", "s3"), setting="stages.heal.distrust.exclude").tolist()


def test_excluded_samples_are_listed_by_name(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes("\ufeffs3\r\n\r\n  s 2 \n".encode())
    assert exclude(tmp_path / "list") == [False, True, True]
    (tmp_path / "list").write_text("")
    assert exclude(tmp_path / "list") == [False] * 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"s3\ns22\n", r"list, where 's22' stands, .*; allowed: names as the id column .* Did you mean `s 2`\?"),
        (b"\xff", "allowed: a text file in UTF-8"),
        (None, "allowed: a text file in UTF-8 .*No such file"),
    ],
)
def test_lists_of_something_else_are_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "list").write_bytes(content)
    with pytest.raises(RefusedInput, match=rf"`stages\.heal\.distrust\.exclude` .*{said}"):
        exclude(tmp_path / "list")
