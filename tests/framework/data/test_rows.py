"""Rows of tables: what each kind of file means by a row, and how broken ones are refused."""

from __future__ import annotations

import csv
import gzip
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from espalier.config.faults import RefusedInput
from espalier.config.labelled import TableConfig
from espalier.data.rows import TableRow, Wanted, read_rows

ROWS = [("plain", "1"), ("a , comma", "0"), ("snow ☃ man", "1"), ("", "0")]
COLUMNS = {"text": "sentence", "label": "class"}


def write(path: Path, rows: Sequence[tuple[str, str]] = ROWS) -> Path:
    """The rows, with a column that nobody wants, as the kind of table that the name asks for."""
    names, whole = ["number", "class", "sentence"], [(str(i), label, text) for i, (text, label) in enumerate(rows)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in whole))
    elif path.suffix == ".parquet":
        columns = [list(column) for column in zip(*whole, strict=True)]
        pyarrow.parquet.write_table(pyarrow.table(columns, names=names), path)
    elif path.suffix == ".tsv":
        path.write_text("".join("\t".join(row) + "\r\n" for row in [names, *whole]))
    else:
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([names, *whole])
    return path


def read(source: str, *files: Path, columns: dict[str, str] = COLUMNS, header: Sequence[str] = ()) -> list[TableRow]:
    table = TableConfig.model_construct(source=source, files=tuple(map(str, files)))
    return list(read_rows(table, Wanted("data.train", columns, header)))


def values(rows: Sequence[TableRow]) -> list[tuple[Any, ...]]:
    return [tuple(row.values.values()) for row in rows]


def refusal(source: str, path: Path, content: bytes, **settings: Any) -> str:
    path.write_bytes(content)
    with pytest.raises(RefusedInput) as refused:
        read(source, path, **settings)
    (fault,) = refused.value.faults
    assert fault.path == "data.train.files" and str(path) in str(fault)
    return str(fault)


@pytest.mark.parametrize("packed", [False, True], ids=["", "gz"])
@pytest.mark.parametrize(
    ("source", "ending"), [("json", "jsonl"), ("csv", "csv"), ("tsv", "tsv"), ("parquet", "parquet")]
)
def test_every_format_gives_the_same_rows(tmp_path: Path, source: str, ending: str, packed: bool) -> None:
    path = write(tmp_path / f"rows.{ending}")
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert values(read(source, path)) == ROWS


def test_quotes_are_text_in_tsv(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.tsv", [('"open', "1"), ('it\'s "closed"', "0"), ('"whole"', "1")])
    assert values(read("tsv", path)) == [('"open', "1"), ('it\'s "closed"', "0"), ('"whole"', "1")]


def test_quotes_hold_lines_together_in_csv_and_a_row_is_named_by_its_last_line(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", [('two\n"lines"', "1"), ("after", "0")])
    rows = read("csv", path)
    assert values(rows) == [('two\n"lines"', "1"), ("after", "0")]
    assert [row.number for row in rows] == [3, 4]


@pytest.mark.parametrize(("source", "text"), [("csv", 'x,0,"a, b"\n\ny,1,c\n'), ("tsv", "x\t0\ta, b\n\ny\t1\tc\n")])
def test_files_without_a_header_are_told_their_columns(tmp_path: Path, source: str, text: str) -> None:
    (tmp_path / "rows").write_text("\ufeff" + text)
    rows = read(source, tmp_path / "rows", header=("who", "class", "sentence"))
    assert values(rows) == [("a, b", "0"), ("c", "1")]
    assert [row.number for row in rows] == [1, 3]


def test_one_column_may_be_two_things(tmp_path: Path) -> None:
    both = {"text": "sentence", "id": "sentence"}
    for source, ending in [("json", "jsonl"), ("csv", "csv"), ("parquet", "parquet")]:
        rows = read(source, write(tmp_path / f"rows.{ending}"), columns=both)
        assert rows[1].values == {"text": "a , comma", "id": "a , comma"}


def test_numbers_stay_numbers_where_the_file_has_them(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"sentence": "x", "class": 3}\n\n{"sentence": "y", "class": null}\n')
    rows = read("json", tmp_path / "a.jsonl")
    assert values(rows) == [("x", 3), ("y", None)] and [row.number for row in rows] == [1, 3]


@pytest.mark.parametrize(
    ("source", "content", "said"),
    [
        ("csv", b"number,class\n1,1\n", "row 1; .*a column `sentence`, once; set `data.train.text`.*number, class"),
        ("csv", b"class,class,sentence\n1,1,a\n", "a column `class`, once; set `data.train.label`"),
        ("csv", b"", "row 1; allowed: a column `sentence`, once"),
        ("csv", b"class,sentence\n1,a,b\n", "row 2; allowed: 2 fields as in the header, not 3"),
        ("csv", b'class,sentence\n1,"a\n', "row 2; allowed: well-formed csv"),
        ("csv", b'class,sentence\n1,"a"b\n', "row 2; allowed: well-formed csv"),
        ("csv", b"class,sentence\n1,\xff\n", "row 2; allowed: text in UTF-8"),
        ("tsv", b"class\tsentence\n1\ta\tb\n", "row 2; allowed: 2 fields as in the header, not 3"),
        ("json", b'{"class": 1, "sentence": "a"}\n[1, "b"]\n', "row 2; allowed: one JSON object per line"),
        ("json", b'{"class": 1, "sentence": "a"}\n{"class": 1}\n', "row 2; allowed: a column `sentence`, once"),
        ("json", b'[{"class": 1,\n', "row 1; allowed: one JSON object per line"),
        ("json", b"[" * 99_999 + b"\n", "row 1; allowed: one JSON object per line"),
        ("csv", b'class,sentence\n1,a\n2,"b\n3,c\n4,d\n', "row 3; allowed: well-formed csv from there on"),
        ("csv", b"class,sentence\r1,a\r", "row 1; allowed: lines that end with a line feed.*carriage return alone"),
        ("csv", b"class;sentence\n1;a\n", "row 1; allowed: save it with commas.*semicolons set"),
        ("csv", b"class\tsentence\n1\ta\n", "row 1; allowed: source: tsv, as tabs set these"),
        ("tsv", b"class,sentence\n1,a\n", "row 1; allowed: source: csv, as commas set these"),
        ("json", b'[{"class": 1, "sentence": "a"}]\n', "row 1; .*not an array; write each of its objects on a line"),
        ("parquet", b"PAR1 cut off", "allowed: an undamaged parquet file"),
    ],
)  # fmt: skip
def test_broken_tables_are_refused_by_file_row_and_remedy(
    tmp_path: Path, source: str, content: bytes, said: str
) -> None:
    assert re.search(said, refusal(source, tmp_path / "rows", content))


def test_a_parquet_file_without_the_column_says_which_it_has(tmp_path: Path) -> None:
    content = write(tmp_path / "rows.parquet").read_bytes()
    said = refusal("parquet", tmp_path / "other.parquet", content, columns={"text": "body"})
    assert "a column `body`, once; set `data.train.text` to one of those there: number, class, sentence" in said


@pytest.mark.parametrize(
    ("value", "said"), [("3", "text in the text column, not int"), ('"\\ud800"', "text that UTF-8 can")]
)
def test_what_is_no_text_is_refused(tmp_path: Path, value: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"sentence": {value}, "class": 1}}\n')
    (row,) = read("json", tmp_path / "a.jsonl")
    with pytest.raises(RefusedInput, match=f"row 1; allowed: {said}"):
        row.text("text", setting="data.train")


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = [{"n": number, "class": label, "sentence": text} for number, (text, label) in enumerate(ROWS)]
    library = SimpleNamespace(load_dataset=lambda *_, **__: streamed)
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setattr("espalier.data.hub.reach", lambda *_: None)
    hub = TableConfig(source="hub", dataset="owner/name")
    rows = list(read_rows(hub, Wanted("data.train", COLUMNS)))
    assert values(rows) == ROWS and [row.number for row in rows] == [1, 2, 3, 4]
    with pytest.raises(RefusedInput, match=r"`data\.train\.label` is 'kind'.*n, class, sentence"):
        list(read_rows(hub, Wanted("data.train", {"label": "kind"})))


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfclass,sentence\r\n1,a\r\n", b'\n\n"class",sentence\n1,a\n'])
def test_marks_blank_lines_and_line_ends_before_a_header_are_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert values(read("csv", tmp_path / "a.csv")) == [("a", "1")]
