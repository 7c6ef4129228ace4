"""The packings that text comes in are read, whatever the file is called; others are named as what they are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from espalier.config.data import CorpusConfig, DataConfig
from espalier.config.faults import RefusedInput
from espalier.data.corpus import documents
from espalier.formats.text.look import check_text

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pyarrow.Codec("zstd").compress(data, asbytes=True),
}


def corpus(path: Path, content: bytes, source: str = "text") -> CorpusConfig:
    path.write_bytes(content)
    return CorpusConfig(source=source, files=(str(path),))


def refusal(path: Path, content: bytes, source: str = "text") -> str:
    with pytest.raises(RefusedInput) as error:
        list(documents(corpus(path, content, source)))
    assert str(path) in str(error.value)
    return str(error.value)


def parquet() -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a b", "c"]}), sink)
    return sink.getvalue()


CONTENT = {
    "text": b"a b\r\nc",
    "json": b'{"text": "a b"}\n{"text": "c"}\n',
    "csv": b"text,n\na b,1\nc,2\n",
    "parquet": parquet(),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("source", CONTENT)
def test_every_packing_of_every_format_is_read(tmp_path: Path, source: str, packing: str) -> None:
    found = list(documents(corpus(tmp_path / "file", PACKINGS[packing](CONTENT[source]), source)))
    assert found == (["a b\r\nc"] if source == "text" else ["a b", "c"])


@pytest.mark.parametrize("packing", PACKINGS)
def test_members_one_after_another_are_one_file(tmp_path: Path, packing: str) -> None:
    pack = PACKINGS[packing]
    assert list(documents(corpus(tmp_path / "file", pack(b"one ") + pack(b"two")))) == ["one two"]


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_bomb_is_refused(tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espalier.data.packed._MIN_UNPACKED_LIMIT_BYTES", 2**16)
    said = refusal(tmp_path / "bomb", PACKINGS[packing](b" " * 2**24))
    assert f"unpacking ({packing}) to over" in said


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_truncated_or_damaged_file_is_refused(tmp_path: Path, packing: str) -> None:
    packed = PACKINGS[packing](bytes(range(1, 128)) * 50)
    assert "undamaged" in refusal(tmp_path / "cut", packed[:-12])
    middle = len(packed) // 2
    assert "refused for" in refusal(tmp_path / "bent", packed[:middle] + b"\xff\xff\xff" + packed[middle + 3 :])


def tar(content: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        member = tarfile.TarInfo("text.txt")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


def zipped(content: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("text.txt", content)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (zipped(b"text"), "packed with zip"),
        (b"\x04\x22\x4d\x18rest", "packed with lz4"),
        (b"7z\xbc\xaf\x27\x1crest", "packed with 7-Zip"),
        (tar(b"text"), "being a tar archive"),
        (gzip.compress(tar(b"text"), mtime=0), "being a tar archive"),
        (gzip.compress(bz2.compress(b"text"), mtime=0), "packed twice"),
        ("wide text".encode("utf-16"), "being UTF-16"),
        ("wide text".encode("utf-32"), "being UTF-32"),
        ("wide text".encode("utf-16-be"), "9 zero bytes among the first 18, as in UTF-16"),
        (gzip.compress("wide text".encode("utf-16-le"), mtime=0), "as in UTF-16"),
    ],
)
def test_unsupported_packing_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    message = refusal(tmp_path / "file", content)
    assert said in message and "plain or packed with gzip, bzip2, xz or zstd" in message


@pytest.mark.parametrize("text", ["one \0 in a text", "BZh9 said Zhang", "BZhang", "Rar! rar!", "LZIPped", "PK"])
def test_text_that_resembles_other_formats_is_read(tmp_path: Path, text: str) -> None:
    assert list(documents(corpus(tmp_path / "file", text.encode()))) == [text]


def test_files_that_are_no_text_are_found_before_anything_starts(tmp_path: Path) -> None:
    good = corpus(tmp_path / "good.txt", b"good")
    (tmp_path / "later.txt").write_bytes(zipped(b"text"))
    both = CorpusConfig(source="text", files=(str(tmp_path / "*.txt"),))
    with pytest.raises(RefusedInput, match=r"data\.valid\.files.*later\.txt.*packed with zip"):
        check_text(DataConfig(train=good, valid=both))
    with pytest.raises(RefusedInput, match=r"data\.train\.files.*row 1.*`text`"):
        check_text(DataConfig(train=corpus(tmp_path / "bad.csv", b"title\nx\n", "csv"), valid=good))
    blank = corpus(tmp_path / "blank.jsonl", b'{"text": " "}\n', "json")
    with pytest.raises(RefusedInput, match=r"`data\.train` has no document"):
        check_text(DataConfig(train=blank, valid=good))
    check_text(DataConfig(train=good, valid=good))


def test_a_plan_refuses_them(tmp_path: Path) -> None:
    from espalier.jobs.load import read_job
    from espalier.planning.prepare import prepare
    from support.tiny import write_job

    job = read_job(write_job(tmp_path))
    (tmp_path / "text" / "work-03.txt").write_bytes(b"\x04\x22\x4d\x18rest")
    with pytest.raises(RefusedInput, match="packed with lz4"):
        prepare(job)
