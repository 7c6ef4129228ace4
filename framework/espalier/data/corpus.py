"""The documents of a corpus, one string each, in an order that never changes. The only door to `datasets`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from espalier.config.data import CorpusConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.data.files import list_files, opened, read_lines, read_text, refused

_PARQUET_ROWS = 256


def documents(corpus: CorpusConfig, *, setting: str = "data.train") -> Iterator[str]:
    """Every document that holds text; rows that are empty or blank hold none and are left out.

    A text file is one document; a row of the other sources is one. Files come sorted by path.

    Args:
        corpus: where to read. All is read as a stream, so memory is bounded by the longest document.
        setting: the corpus's place in the job file, for messages.

    Raises:
        RefusedInput: missing or damaged files, rows that do not parse, that lack the text column or hold
            something other than text in it. Names file and row.
    """
    if corpus.source == "hub":
        yield from _filled(_hub(corpus, setting))
        return
    reader = _READERS[corpus.source]
    for path in list_files(corpus, setting=setting):
        yield from _filled(reader(path, corpus.text, setting))


def _filled(texts: Iterable[str]) -> Iterator[str]:
    return (text for text in texts if text and not text.isspace())


def _text(path: Path, column: str, setting: str) -> Iterator[str]:
    del column  # a file of text has none
    yield read_text(path, setting=setting)


def _json(path: Path, column: str, setting: str) -> Iterator[str]:
    for number, line in enumerate(read_lines(path, setting=setting), start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise _bad_row(path, number, "one JSON object per line", setting=setting)
        if column not in row:
            raise _bad_row(path, number, _columns(setting, column, row), setting=setting)
        yield _checked(row[column], path, number, setting)


def _csv(path: Path, column: str, setting: str) -> Iterator[str]:
    csv.field_size_limit(sys.maxsize)  # the module's own 128 KiB is less than a long document
    rows = csv.reader(read_lines(path, setting=setting), strict=True)
    try:
        header = next(rows, [])
        if header.count(column) != 1:
            raise _bad_row(path, 1, _columns(setting, column, header), setting=setting)
        place = header.index(column)
        for row in rows:
            if row and len(row) != len(header):
                allowed = f"{len(header)} fields as in the header, not {len(row)}"
                raise _bad_row(path, rows.line_num, allowed, setting=setting)
            if row:
                yield _checked(row[place], path, rows.line_num, setting)
    except csv.Error as error:
        raise _bad_row(path, rows.line_num, f"well-formed csv ({error})", setting=setting) from error


def _parquet(path: Path, column: str, setting: str) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with opened(path, setting=setting) as source:
            # Parquet is read from its end, and gzip cannot seek.
            whole = source if source.seekable() else pyarrow.BufferReader(source.read())
            table = pyarrow.parquet.ParquetFile(whole)
            there = table.schema_arrow.names
            if there.count(column) != 1:
                raise refused(path, _columns(setting, column, there), setting=setting, where="its columns")
            for rows in table.iter_batches(_PARQUET_ROWS, columns=[column]):
                for value in rows.column(0):
                    number += 1
                    yield _checked(value.as_py(), path, number, setting)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise _bad_row(path, number + 1, f"an undamaged parquet file ({error})", setting=setting) from error


_READERS: dict[str, Callable[[Path, str, str], Iterator[str]]] = {
    "text": _text,
    "json": _json,
    "csv": _csv,
    "parquet": _parquet,
}


def _hub(corpus: CorpusConfig, setting: str) -> Iterator[str]:
    import datasets

    name = corpus.dataset
    assert name is not None
    if Path(name).exists():  # `datasets` would read this instead, and what it holds is in no fingerprint
        allowed = "a hub name that no folder here has too; for files of your own use another `source`"
        raise RefusedInput([Fault(f"{setting}.dataset", name, allowed)])
    try:
        rows = datasets.load_dataset(name, corpus.subset, split=corpus.split, revision=corpus.revision, streaming=True)
    except (FileNotFoundError, ValueError, RuntimeError) as error:  # RuntimeError: the data set is a script
        allowed = f"a data set of the hub with this `subset` and `split` ({error})"
        raise RefusedInput([Fault(f"{setting}.dataset", name, allowed)]) from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(corpus.text), str):
            allowed = f"a column of text (row {number} of {name} has {', '.join(row)})"
            raise RefusedInput([Fault(f"{setting}.text", corpus.text, allowed)])
        yield row[corpus.text]


def _bad_row(path: Path, row: int, allowed: str, *, setting: str) -> RefusedInput:
    return refused(path, allowed, setting=setting, where=f"row {row}")


def _columns(setting: str, column: str, there: Iterable[str]) -> str:
    return f"a column `{column}`, once; set `{setting}.text` to one of those there: {', '.join(there)}"


def _checked(value: Any, path: Path, row: int, setting: str) -> str:
    if not isinstance(value, str):
        raise _bad_row(path, row, f"text in the text column, not {type(value).__name__}", setting=setting)
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair; no tokenizer reads it
        raise _bad_row(path, row, f"text that UTF-8 can hold ({error})", setting=setting) from error
    return value
