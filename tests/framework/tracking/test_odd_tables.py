"""Damaged tables and lists of samples give one sentence that names the file."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from espalier.config.faults import RefusedInput
from espalier.tracking import jsonl
from espalier.tracking.epochs import EPOCHS, EpochRecord, list_path, names_path, read_epochs, table_path
from espalier.tracking.sample_reader import COLUMNS, read_list, sample_answers, sample_column, sample_names
from espalier.tracking.samples import SampleTable, read_samples, write_samples

PATH = table_path("fixed", 1)


def columns(**more: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        pyarrow.parquet.write_table(pyarrow.table(more), path)

    return write


def text(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def pipe(path: Path) -> None:
    os.mkfifo(path)


def torn(path: Path) -> None:
    columns(sample=[0, 1], weight=[1.0, 1.0], loss=[1.0, 1.0])(path)
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "plant",
    [
        text(b""),
        text(b"weight,loss\n1,2\n"),
        torn,
        pipe,
        Path.mkdir,
        columns(other=[1, 2]),
        columns(sample=[0, 1], loss=[1.0, 2.0]),
        columns(sample=[0, 1], weight=["a", "b"], loss=[1.0, 2.0]),
        columns(sample=[0, 1], weight=[[1.0], [2.0]], loss=[1.0, 2.0]),
    ],
)
def test_a_file_that_is_no_table_of_samples_is_refused_by_name(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    path = tmp_path / "epoch-0001.parquet"
    plant(path)
    with pytest.raises(RefusedInput, match=r"epoch-0001\.parquet.*is no table of samples"):
        read_samples(path)


def test_columns_of_a_newer_version_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "epoch-0001.parquet"
    columns(sample=[0, 1], weight=[1.0, 2.0], loss=[3.0, 4.0], colour=["red", "blue"])(path)
    assert read_samples(path).weight.tolist() == [1.0, 2.0] and sample_column(path, "student") is None


def test_samples_that_a_table_does_not_have_are_not_looked_up(tmp_path: Path) -> None:
    path = tmp_path / PATH
    teacher = np.array([0, 1], dtype=np.int16)
    write_samples(path, SampleTable(np.ones(2, np.float32), np.ones(2, np.float32), teacher=teacher), data="k")
    with pytest.raises(RefusedInput, match="2 rows"):
        sample_answers(path, "teacher", np.array([0, 2]), ())
    (tmp_path / names_path("fixed")).write_bytes(b"PAR1")
    with pytest.raises(RefusedInput, match=r"names\.parquet"):
        sample_names(tmp_path, "fixed", np.array([0]))


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\n1,2\n",
        ",".join(COLUMNS).encode() + b"\nx,../x\n",
        ",".join(COLUMNS).encode() + b"\nx\n",
        ",".join(COLUMNS).encode() + b"\nx," + b"9" * 40 + b"\n",
        b"\xff\xfe",
        b"name\n\x00",
    ],
)
def test_a_file_that_is_no_list_of_samples_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / list_path("fixed", "suspects")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if content == b"name\n\x00":
        path.unlink()
        path.mkdir()
    with pytest.raises(RefusedInput, match=r"suspects\.csv.*is no list of samples"):
        read_list(tmp_path, "fixed", "suspects")


@pytest.mark.parametrize(
    "samples", ["/etc/passwd", "../../x.parquet", "records/samples/../x/epoch-0001.parquet", "records/steps.jsonl"]
)
def test_the_path_of_an_epochs_table_cannot_leave_the_run(tmp_path: Path, samples: str) -> None:
    record = EpochRecord("fixed", 1, 1, 1, 1, 1.0, samples=str(PATH))
    jsonl.prepare(tmp_path / EPOCHS)
    jsonl.append(tmp_path / EPOCHS, asdict(record))
    assert read_epochs(tmp_path / EPOCHS) == [record]
    jsonl.append(tmp_path / EPOCHS, asdict(record) | {"samples": samples})
    with pytest.raises(RefusedInput, match="line 2, samples"):
        read_epochs(tmp_path / EPOCHS)
