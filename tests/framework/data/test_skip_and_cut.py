"""Empty files and blank rows are left out where that is asked for, with a count; a text file can be many documents."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_tables import origin, read, refusal, write_csv

from espalier.config.data import CorpusConfig, DataConfig
from espalier.config.faults import RefusedInput
from espalier.config.labelled import LabelledConfig
from espalier.data.corpus import documents, num_skipped
from espalier.data.cutting import cut_text
from espalier.data.fingerprint import _corpus, fingerprint_of_text
from espalier.data.split import split_documents
from espalier.formats.labelled.remarks import data_remarks
from espalier.formats.text.look import check_text, skipped_remarks
from espalier.jobs.files import check_files
from espalier.jobs.load import read_job
from support.tiny import write_job

ROWS = ['{"text": "one"}', '{"text": null}', "", '{"text": " \\n"}', '{"text": ""}', '{"text": "two"}']


def write_corpus(root: Path) -> dict[str, tuple[list[Path], int]]:
    """By source, files with the documents `one` and `two`, and how much in them is no document."""
    for name, content in {
        "one.txt": b"one",
        "blank.txt": b" \n",
        "empty.txt": b"",
        "two.txt": b"two",
        "rows.jsonl": "\n".join(ROWS).encode(),
        "empty.jsonl": b"",
        "rows.csv": b'text,n\r\none,1\r\n,2\r\n" ",3\r\ntwo,4\r\n',
        "empty.csv": b"",
        "packed.csv": gzip.compress(b""),
    }.items():
        (root / name).write_bytes(content)
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", None, "  ", "two"]}), root / "rows.parquet")
    named = {
        "text": (["one.txt", "blank.txt", "empty.txt", "two.txt"], 2),
        "json": (["rows.jsonl", "empty.jsonl"], 4),
        "csv": (["rows.csv", "empty.csv", "packed.csv"], 4),
        "parquet": (["rows.parquet"], 2),
    }
    return {source: ([root / name for name in names], count) for source, (names, count) in named.items()}


@pytest.mark.parametrize("source", ["text", "json", "csv", "parquet"])
def test_what_holds_no_text_is_left_out_and_counted(tmp_path: Path, source: str) -> None:
    files, skipped = write_corpus(tmp_path)[source]
    corpus = CorpusConfig(source=source, files=tuple(map(str, files)), skip_blank=True)
    assert sorted(documents(corpus)) == ["one", "two"]
    assert num_skipped(corpus, setting="data.train") == skipped
    data = DataConfig(train=corpus, valid={"fraction": 0.5})
    check_text(data)
    assert list(skipped_remarks(data)) == [f"data.train: {skipped} empty files and rows without text are left out"]


@pytest.mark.parametrize("source", ["json", "csv", "parquet"])
def test_without_it_they_are_refused_with_the_remedy(tmp_path: Path, source: str) -> None:
    files, _ = write_corpus(tmp_path)[source]
    corpus = CorpusConfig(source=source, files=tuple(map(str, files)))
    with pytest.raises(RefusedInput, match=r"rows\.(jsonl|parquet).*row 2.*skip_blank: true|empty\.csv"):
        list(documents(corpus))


def test_an_empty_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    (tmp_path / "text" / "work-99.txt").write_text("")
    (fault,) = check_files(read_job(job))
    assert "work-99.txt" in str(fault) and "data.train.skip_blank: true" in str(fault)
    assert check_files(read_job(job, ["data.train.skip_blank=true"])) == []


def test_samples_without_a_text_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"text": f"text {n}", "label": "ab"[n % 2]} for n in range(8)]
    rows[2]["text"] = rows[5]["text"] = None
    rows[7]["text"] = " "
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train = origin(tmp_path / "rows.jsonl", source="json")
    assert "row 3" in refusal(train)[0] and "data.train.skip_blank: true" in refusal(train)[0]
    found = read({**train, "skip_blank": True})
    assert len(found.train) + len(found.valid) == 5 and found.skipped == 3
    settings: Any = {"task": "classification", "train": {**train, "skip_blank": True}, "valid": {"fraction": 0.25}}
    assert data_remarks(LabelledConfig.model_validate(settings), found)[1] == "3 rows without text are left out"
    blank = write_csv(tmp_path / "blank.csv", [("one", "a"), (" ", "b"), ("two", "b")])
    assert "data.train.skip_blank: true" in refusal(origin(blank))[0]


def test_pairs_lack_a_text_when_either_is_null(tmp_path: Path) -> None:
    rows = [{"text": "t", "pair": p, "label": label} for p, label in (("x", "a"), (None, "b"), ("", "b"), ("y", "a"))]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read(origin(tmp_path / "rows.jsonl", source="json", pair="pair", skip_blank=True), {"fraction": 0.5})
    assert found.skipped == 1 and sorted([*found.train.pairs, *found.valid.pairs]) == ["", "x", "y"]


def test_data_that_uses_neither_keeps_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    plain = DataConfig(train=CorpusConfig(source="text", files=(str(tmp_path / "a.txt"),)), valid={"fraction": 0.5})
    for changes in ({"cut": 9}, {"skip_blank": True}):
        changed = plain.model_copy(update={"train": plain.train.model_copy(update=changes)})
        assert fingerprint_of_text(changed) != fingerprint_of_text(plain)
    assert set(_corpus(plain.train, "data.train")) == {
        "source", "dataset", "subset", "revision", "split", "text", "contents",
    }  # fmt: skip


def test_paragraphs_are_documents(tmp_path: Path) -> None:
    (tmp_path / "play.txt").write_bytes(b"Act I\r\nScene 1\r\n\r\n\r\nKING\nspeaks\n \t\nQUEEN\n")
    corpus = CorpusConfig(source="text", files=(str(tmp_path / "play.txt"),), cut="paragraphs")
    assert list(documents(corpus)) == ["Act I\r\nScene 1", "KING\nspeaks", "QUEEN\n"]


@given(st.text(alphabet="ab \n\t\u3000\U0001f600", max_size=200), st.integers(1, 40))
def test_parts_are_the_whole_text_and_never_too_long(text: str, length: int) -> None:
    parts = list(cut_text(text, length))
    assert "".join(parts) == text and all(len(part) <= length for part in parts)
    assert all(parts) or not text


def test_parts_end_with_a_line_else_with_a_word() -> None:
    assert list(cut_text("one two\nthree four\nfive", 12)) == ["one two\n", "three four\n", "five"]
    assert list(cut_text("one two three", 9)) == ["one two ", "three"]
    assert list(cut_text("abcdefghij", 4)) == ["abcd", "efgh", "ij"]


def test_a_single_file_can_be_divided(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("\n\n".join(f"paragraph {number}" for number in range(40)))
    settings: dict[str, Any] = {"source": "text", "files": [str(tmp_path / "own.txt")]}
    whole = DataConfig.model_validate({"train": settings, "valid": {"fraction": 0.2}})
    with pytest.raises(RefusedInput, match=r"data\.valid\.fraction.*set `data\.train\.cut`"):
        check_text(whole)
    cut = DataConfig.model_validate({"train": {**settings, "cut": "paragraphs"}, "valid": {"fraction": 0.2}})
    check_text(cut)
    train, valid = (list(split_documents(cut, side)) for side in ("train", "valid"))
    assert len(train) + len(valid) == 40 and valid


def test_only_text_is_cut() -> None:
    with pytest.raises(ValueError, match="each row is a document"):
        CorpusConfig.model_validate({"source": "json", "files": ["/a"], "cut": "paragraphs"})
