"""A person's decisions on suspect labels, and the corrected copy of the training table."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from espalier.audit.fixes import read_fixes, write_corrected, write_fixes
from espalier.audit.judged_labels import JudgedLabels
from espalier.audit.written import SUFFIX, record_of
from espalier.config.faults import RefusedInput
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import read_labelled
from espalier.jobs.job import Job
from espalier.storage.local import xxh3_of
from espalier.weighting.suspicion import Suspicion
from framework.audit.tables import read_table, write_table

TEXTS = ("first, text", 'a "quoted" text', "third", "fourth", "fifth")
IDS = ("=a", "b", "c", "d", "e")
LABELS = ("good", "bad", "good", "keep", "bad")
SOURCES = ("csv", "tsv", "json", "parquet")


def judged(
    root: Path, source: str = "csv", *, given: tuple[Any, ...] = LABELS, ids: bool = True, **changes: Any
) -> JudgedLabels:
    """Five samples that fold models all give the first class, or the value 1; doubted in the table's order."""
    ours = [{"id": i, "text": t, "label": y, "more": 7} for i, t, y in zip(IDS, TEXTS, given, strict=True)]
    train = write_table(root / f"train.{source}", source, ours)
    valid = write_table(root / f"valid.{source}", source, [{"text": f"{y} here", "label": y} for y in set(given)])
    data = LabelledConfig.model_validate(
        {
            "task": "classification",
            "train": {"source": source, "files": [str(train)], **({"id": "id"} if ids else {})},
            "valid": {"source": source, "files": [str(valid)]},
            **changes,
        }
    )
    labelled = read_labelled(data, seed=0)
    width = max(1, len(labelled.names))
    answers = np.full((len(IDS), width), 0.1)
    answers[:, 0] = 1.0 - 0.1 * (width - 1)
    suspicion = Suspicion(answers, labelled.train.targets, labelled.names, "fold models")
    job = Job.model_construct(name="tiny")
    return JudgedLabels("twins", job, data, "data", labelled, suspicion, np.linspace(0.9, 0.1, 5), [None] * 5)


def edited(root: Path, *rows: tuple[str, str], columns: str = "id,decision") -> Path:
    path = root / "edited.csv"
    path.write_text("\n".join([columns, *(",".join(row) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize("source", SOURCES)
def test_a_copy_has_the_fixes_and_every_other_value(tmp_path: Path, source: str) -> None:
    found = judged(tmp_path, source)
    original = tmp_path / f"train.{source}"
    before, fixes = xxh3_of(original), edited(tmp_path, ("'=a", "bad"), ("c", "drop"), ("e", "row: keep"), ("b", ""))
    write_corrected(tmp_path / f"new.{source}", found, read_fixes(fixes, found), fixes_file=fixes)
    expected = read_table(original, source)
    expected[0]["label"] = "bad"
    assert read_table(tmp_path / f"new.{source}", source) == [expected[0], expected[1], expected[3], expected[4]]
    assert xxh3_of(original) == before
    record = record_of(tmp_path / f"new.{source}")
    assert record is not None and record.made_from["table_xxh3"] == before
    assert (record.made_from["changed"], record.made_from["dropped"], record.made_from["kept"]) == (1, 1, 1)


@pytest.mark.parametrize("source", ["csv", "tsv", "json"])
def test_rows_without_a_fix_are_the_same_bytes(tmp_path: Path, source: str) -> None:
    found = judged(tmp_path, source, ids=False)
    number = {"csv": "4", "tsv": "4", "json": "3"}[source]  # a row's line where there is no column of ids
    fixes = edited(tmp_path, (number, "bad"))
    write_corrected(tmp_path / f"new.{source}", found, read_fixes(fixes, found), fixes_file=fixes)
    old, new = ((tmp_path / name).read_bytes().splitlines(True) for name in (f"train.{source}", f"new.{source}"))
    changed = int(number) - 1
    assert len(old) == len(new) and [i for i in range(len(old)) if old[i] != new[i]] == [changed]
    assert b"third" in new[changed] and b"bad" in new[changed] and new[changed][-2:] == old[changed][-2:]


def test_a_parquet_copy_keeps_schema_types_and_compression(tmp_path: Path) -> None:
    found = judged(tmp_path, "parquet", given=(1, 0, 1, 2, 0))
    fixes = edited(tmp_path, ("b", "2"))
    write_corrected(tmp_path / "new.parquet", found, read_fixes(fixes, found), fixes_file=fixes)
    old, new = (pyarrow.parquet.ParquetFile(tmp_path / name) for name in ("train.parquet", "new.parquet"))
    assert new.schema_arrow == old.schema_arrow and new.read()["label"].to_pylist() == [1, 2, 1, 2, 0]
    assert new.metadata.row_group(0).column(0).compression == "ZSTD"


def test_labels_of_json_keep_their_type(tmp_path: Path) -> None:
    found = judged(tmp_path, "json", given=(1, 0, 1, 2, 0))
    fixes = edited(tmp_path, ("b", "2"))
    write_corrected(tmp_path / "new.json", found, read_fixes(fixes, found), fixes_file=fixes)
    assert json.loads((tmp_path / "new.json").read_text().splitlines()[1])["label"] == 2


def test_a_decision_is_a_name_or_a_value_of_the_label_column(tmp_path: Path) -> None:
    named = {"labels": ["0", "1"], "names": ["good", "bad"]}
    found = judged(tmp_path, given=("0", "1", "0", "1", "1"), **named)
    assert read_fixes(edited(tmp_path, ("b", "good"), ("c", "1"), ("d", "bad")), found).labels == {1: "0", 2: "1"}


def test_a_class_may_be_called_as_a_decision(tmp_path: Path) -> None:
    found = judged(tmp_path)
    fixes = read_fixes(edited(tmp_path, ("b", "label: keep"), ("c", "row: keep"), ("d", " Drop ")), found)
    assert (fixes.labels, fixes.dropped, fixes.kept) == ({1: "keep"}, {3}, 1)
    with pytest.raises(RefusedInput, match=r"row 2: decision` is 'keep'; allowed: `label: keep` .* or `row: keep`"):
        read_fixes(edited(tmp_path, ("b", "keep")), found)


@pytest.mark.parametrize("source", SOURCES)
def test_numbers_are_fixed_too(tmp_path: Path, source: str) -> None:
    found = judged(tmp_path, source, given=(1.5, 2.0, 0.5, 4.0, 3.0), task="regression")
    fixes = edited(tmp_path, ("b", "2.25"), ("c", "drop"), ("d", "4.0"))
    write_corrected(tmp_path / f"new.{source}", found, read_fixes(fixes, found), fixes_file=fixes)
    rows = read_table(tmp_path / f"new.{source}", source)
    assert [float(row["label"]) for row in rows] == [1.5, 2.25, 4.0, 3.0]
    with pytest.raises(RefusedInput, match=r"decision` is 'nan'; allowed: keep, drop, a finite number, or nothing"):
        read_fixes(edited(tmp_path, ("b", "nan")), found)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    found = judged(tmp_path)
    path = tmp_path / "suspects.csv"
    write_fixes(path, found, [0, 1, 2])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["given"] for row in rows] == ["good", "bad", "good"] and rows[0]["id"] == "'=a"
    assert (rows[0]["suggested"], rows[0]["probability"], rows[0]["decision"]) == ("bad", "0.8000", "")
    assert rows[1]["suggested"] == "" and rows[0]["text"] == "first, text"
    assert read_fixes(path, found).undecided == 3
    write_fixes(path, found, [3])  # nobody has touched it
    path.write_text(path.read_text() + "\n")
    with pytest.raises(RefusedInput, match=r"`--out` names .*suspects.csv, which was changed since it was written"):
        write_fixes(path, found, [3])


@pytest.mark.parametrize("mark", [";", "\t"])
def test_what_a_spreadsheet_saves_is_read(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "saved.csv"
    path.write_text(f"\ufeffid{mark}decision{mark}text\r\nb{mark}keep me{mark}x\r\n".replace(" me", ""), newline="")
    with pytest.raises(RefusedInput, match="row 2: decision"):  # `keep` is a class here
        read_fixes(path, judged(tmp_path))
    path.write_text(path.read_text().replace("keep", "good"))
    assert read_fixes(path, judged(tmp_path)).labels == {1: "good"}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("z", "drop")], r"edited.csv: row 2: id` is 'z'; allowed: the id of a training sample of this run"),
        ([("b", "drop"), ("b", "bad")], r"row 3: id` 'b' stands in 2 rows; allowed: each id once"),
        ([("b", "god")], r"row 2: decision` is 'god'; allowed: .* bad, good, keep, or nothing. Did you mean `good`\?"),
        ([("b", "good,more")], r"row 2` is 'b, good, more'; allowed: 2 fields as in the header, not 3"),
    ],
)
def test_a_fault_of_a_row_is_a_sentence(tmp_path: Path, rows: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(RefusedInput, match=sentence):
        read_fixes(edited(tmp_path, *rows), judged(tmp_path))


def test_faults_of_the_file_are_sentences(tmp_path: Path) -> None:
    found = judged(tmp_path)
    with pytest.raises(RefusedInput, match=r"edited.csv: columns` is 'id'; allowed: a column `decision`, once"):
        read_fixes(edited(tmp_path, columns="id"), found)
    with pytest.raises(
        RefusedInput, match=r"row 2: given` is 'good'; allowed: bad, the label that the run was trained"
    ):
        read_fixes(edited(tmp_path, ("b", "good,drop"), columns="id,given,decision"), found)
    with pytest.raises(RefusedInput, match=r"`--apply` names .*nowhere.csv"):
        read_fixes(tmp_path / "nowhere.csv", found)
    (tmp_path / "quote.csv").write_text('id,decision\n"b,drop\n')
    with pytest.raises(RefusedInput, match=r"quote.csv: row 2` cannot be read; allowed: well-formed csv"):
        read_fixes(tmp_path / "quote.csv", found)


def test_nothing_of_the_user_s_is_overwritten(tmp_path: Path) -> None:
    found, fixes = judged(tmp_path), edited(tmp_path, ("b", "good"))
    decided = read_fixes(fixes, found)
    for name in ("train.csv", "edited.csv"):
        before = xxh3_of(tmp_path / name)
        with pytest.raises(RefusedInput, match=rf"`--out` names .*{name}, a file that was not written by this command"):
            write_corrected(tmp_path / name, found, decided, fixes_file=fixes)
        assert xxh3_of(tmp_path / name) == before
    (tmp_path / "link.csv").symlink_to(tmp_path / "train.csv")
    with pytest.raises(RefusedInput, match="a folder or a link"):
        write_corrected(tmp_path / "link.csv", found, decided, fixes_file=fixes)
    with pytest.raises(RefusedInput, match="a file in a folder that exists"):
        write_corrected(tmp_path / "nowhere" / "new.csv", found, decided, fixes_file=fixes)
    with pytest.raises(
        RefusedInput, match=r"`--out` is .*; allowed: a name that ends in .csv, as the copy has the for"
    ):
        write_corrected(tmp_path / "new.parquet", found, decided, fixes_file=fixes)
    write_corrected(tmp_path / "new.csv", found, decided, fixes_file=fixes)
    write_corrected(tmp_path / "new.csv", found, decided, fixes_file=fixes)  # as it was written
    assert sorted(path.name for path in tmp_path.glob("new.*")) == ["new.csv", f"new.csv{SUFFIX}"]


def test_data_of_which_no_copy_can_be_made_is_named(tmp_path: Path) -> None:
    found = judged(tmp_path)
    fixes = edited(tmp_path, ("b", "good"))
    decided = read_fixes(fixes, found)
    train = found.data.train
    several = train.model_copy(
        update={"files": (*train.files, str(write_table(tmp_path / "x.csv", "csv", [{"a": 1}])))}
    )
    hub = train.model_copy(update={"source": "hub", "files": (), "dataset": "someone/set"})
    for other, sentence in (
        (several, r"`data.train.files` names 2 files; .* join them"),
        (hub, "`data.train.source` is"),
    ):
        job = JudgedLabels(**{**vars(found), "data": found.data.model_copy(update={"train": other})})
        with pytest.raises(RefusedInput, match=sentence):
            write_corrected(tmp_path / "new.csv", job, decided, fixes_file=fixes)
        assert not (tmp_path / "new.csv").exists()
