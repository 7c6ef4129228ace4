import csv
import gzip
import json
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from espalier.config.data import CorpusConfig
from espalier.config.faults import RefusedInput
from espalier.data.corpus import documents

TEXTS = ["plain", 'a "quoted", comma', "two\nlines", "snow ☃ man", "x" * 200_003]


def write(path: Path, texts: list[str]) -> Path:
    """The texts as the kind of file that the name asks for."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "jsonl":
        data = "".join(json.dumps({"n": i, "text": text}) + "\n" for i, text in enumerate(texts)).encode()
    elif kind == "csv":
        plain = path.with_name("plain.tmp")
        with open(plain, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("n", "text"), *enumerate(texts)])
        data = plain.read_bytes()
    else:
        plain = path.with_name("plain.tmp")
        pyarrow.parquet.write_table(pyarrow.table({"n": range(len(texts)), "text": texts}), plain)
        data = plain.read_bytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(source: str, *files: Path, text: str = "text") -> list[str]:
    return list(documents(CorpusConfig(source=source, files=tuple(map(str, files)), text=text)))


def refusal(source: str, path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(RefusedInput) as error:
        read(source, path)
    assert "data.train.files" in str(error.value) and str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("packing", ["", ".gz"])
@pytest.mark.parametrize(("source", "ending"), [("json", "jsonl"), ("csv", "csv"), ("parquet", "parquet")])
def test_every_format_gives_the_same_documents(tmp_path: Path, source: str, ending: str, packing: str) -> None:
    assert read(source, write(tmp_path / f"rows.{ending}{packing}", TEXTS)) == TEXTS


@pytest.mark.parametrize("packing", [lambda data: data, gzip.compress])
def test_a_text_file_is_one_document(tmp_path: Path, packing) -> None:
    (tmp_path / "play").write_bytes(packing("\ufeffAct I\r\n\r\nSnow ☃\n".encode()))
    assert read("text", tmp_path / "play") == ["Act I\r\n\r\nSnow ☃\n"]


def test_files_come_sorted_and_once(tmp_path: Path) -> None:
    for name in "cab":
        (tmp_path / f"{name}.txt").write_text(name)
    (tmp_path / "folder.txt").mkdir()
    assert read("text", tmp_path / "c.txt", tmp_path / "*.txt") == ["a", "b", "c"]


def test_a_file_name_with_brackets_is_no_glob(tmp_path: Path) -> None:
    (tmp_path / "act[1].txt").write_text("one")
    assert read("text", tmp_path / "act[1].txt") == ["one"]


def test_blank_rows_hold_no_document(tmp_path: Path) -> None:
    assert read("json", write(tmp_path / "rows.jsonl", ["a", "", " \n", "b"])) == ["a", "b"]


def test_all_missing_files_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput) as error:
        read("text", tmp_path / "absent.txt", tmp_path / "*.none")
    assert [fault.path for fault in error.value.faults] == ["data.train.files[0]", "data.train.files[1]"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "cut', "one JSON object per line"),
        (b'["text"]', "one JSON object per line"),
        (b"[" * 100_000, "one JSON object per line"),
        (b'{"title": "x", "body": "y"}', "title, body"),
        (b'{"text": 5}', "not int"),
        (b'{"text": null}', "not NoneType"),
        (b'{"text": "\\ud800"}', "UTF-8"),
        (b'{"text": "\xe9"}', "UTF-8"),
    ],
)
def test_a_broken_json_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    message = refusal("json", tmp_path / "rows.jsonl", b'{"text": "fine"}\n\n' + line + b'\n{"text": "fine"}\n')
    assert "row 3" in message and said in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"title,body\na,b\n", "row 1"),
        (b"title,body\na,b\n", "title, body"),
        (b"text,text\na,b\n", "row 1"),
        (b"", "row 1"),
        (b"text,n\na,1\nb\n", "row 3"),
        (b'text,n\na,1\n"b"c,2\n', "row 3"),
        (b"text,n\na,1\n\xe9,2\n", "row 3"),
    ],
)
def test_a_broken_csv_row_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    assert said in refusal("csv", tmp_path / "rows.csv", content)


def test_a_parquet_file_without_the_text_is_refused(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"title": ["x"], "body": ["y"]}), tmp_path / "rows.parquet")
    assert "title, body" in refusal("parquet", tmp_path / "r.parquet", (tmp_path / "rows.parquet").read_bytes())
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x", None]}), tmp_path / "rows.parquet")
    assert "row 2" in refusal("parquet", tmp_path / "r.parquet", (tmp_path / "rows.parquet").read_bytes())
    refusal("parquet", tmp_path / "r.parquet", b"PAR1 is not all there is to it")


@pytest.mark.parametrize("source", ["text", "json", "csv"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf16_is_refused(tmp_path: Path, source: str, encoding: str) -> None:
    assert "UTF-16" in refusal(source, tmp_path / "wide", '{"text": "wide"}\n'.encode(encoding))


@pytest.mark.parametrize("source", ["text", "json", "csv", "parquet"])
def test_a_gzip_bomb_is_refused(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier.data.packed._MIN_UNPACKED_LIMIT_BYTES", 2**16)
    assert "unpacking" in refusal(source, tmp_path / "bomb", gzip.compress(b" " * 2**23))


@pytest.mark.parametrize("source", ["text", "json"])
def test_damaged_gzip_is_refused(tmp_path: Path, source: str) -> None:
    packed = gzip.compress(b'{"text": "fine"}\n')
    assert "undamaged" in refusal(source, tmp_path / "cut.gz", packed[:-9])
    assert "undamaged" in refusal(source, tmp_path / "bent.gz", packed[:20] + b"\xff" + packed[21:])


def test_hub_rows_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real streaming of `datasets`, over a folder in place of the hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write(tmp_path / "rows.jsonl", [*TEXTS, ""])
    load = datasets.load_dataset
    monkeypatch.setattr("espalier.data.hub.reach", lambda *_: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, *rest, **more: load(str(tmp_path), *rest, **more))
    assert list(documents(CorpusConfig(source="hub", dataset="owner/name"))) == TEXTS
    with pytest.raises(RefusedInput, match=r"data\.train\.text.*n, text"):
        list(documents(CorpusConfig(source="hub", dataset="owner/name", text="body")))
    with pytest.raises(RefusedInput, match=r"data\.train\.dataset.*subset"):
        list(documents(CorpusConfig(source="hub", dataset="owner/name", split="absent")))


def test_a_folder_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plays").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RefusedInput, match="no folder"):
        list(documents(CorpusConfig(source="hub", dataset="plays")))
