"""Whether the inputs of a job are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.config.files import matching_files
from espalier.jobs.files import check_files
from espalier.jobs.load import read_job


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "b.jsonl.gz").write_bytes(b"x")
    (tmp_path / "corpus" / "a.jsonl.gz").write_bytes(b"x")
    (tmp_path / "valid.txt").write_text("text")
    return tmp_path


def faults(job_file: Path, *overrides: str) -> list[str]:
    return [str(fault) for fault in check_files(read_job(job_file, ["data.valid.files=[valid.txt]", *overrides]))]


def test_inputs_that_are_there_are_no_fault(job_file: Path, inputs: Path) -> None:
    (inputs / "model").mkdir()
    assert faults(job_file) == []
    assert faults(job_file, "stages.parent.model=./model") == []


def test_missing_empty_and_misplaced_inputs_are_all_told(job_file: Path, inputs: Path) -> None:
    (inputs / "corpus" / "c.jsonl.gz").touch()
    (inputs / "valid.txt").unlink()
    said = faults(job_file, "stages.parent.model=./model", "resume=/nowhere/at/all")
    places = ["data.train.files[0]", "data.valid.files[0]", "resume", "stages.parent.model"]
    assert [sentence.split("`")[1] for sentence in said] == places
    assert (
        "c.jsonl.gz'; allowed: a file with text in it, as this one is empty; or data.train.skip_blank: true" in said[0]
    )
    assert "valid.txt'; allowed: a file that exists" in said[1]


def test_a_folder_is_no_file(job_file: Path, inputs: Path) -> None:
    assert "data.train.files[0]" in faults(job_file, "data.train.files=[corpus]")[0]


def test_a_glob_means_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    names = ["d.txt", "a.txt", "inner/e.txt", "c.txt", "f.txt", "b.txt"]
    for name in names:
        (tmp_path / name).touch()
    assert matching_files(str(tmp_path / "**")) == sorted(str(tmp_path / name) for name in names)


def test_a_name_that_looks_like_a_glob_is_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").touch()
    (tmp_path / "a1.txt").touch()
    assert matching_files(str(tmp_path / "a[1].txt")) == [str(tmp_path / "a[1].txt")]
