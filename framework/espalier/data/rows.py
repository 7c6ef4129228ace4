"""Read chosen columns of csv, tsv, JSON lines and parquet files, and of data sets on the hub, row by row."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier.config.data import OriginConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.data.files import list_files, opened, read_lines, refused
from espalier.data.hub import hub_rows

_PARQUET_ROWS = 256


@dataclass(frozen=True)
class Wanted:
    """The columns to read.

    Attributes:
        setting: path of the table in the job file.
        columns: use (`text`, `label`: a setting below `setting`) -> the column's name in the table.
        header: names of all columns, for csv and tsv files without a header.
    """

    setting: str
    columns: Mapping[str, str]
    header: Sequence[str] = ()

    def places(self, there: Sequence[str], path: Path, *, row: int) -> dict[str, int]:
        """The position of each wanted column among the columns of a table."""
        for use, name in self.columns.items():
            if list(there).count(name) != 1:
                raise bad_row(path, row, self.missing(use, there), setting=self.setting)
        return {use: list(there).index(name) for use, name in self.columns.items()}

    def missing(self, use: str, there: Iterable[str]) -> str:
        """The remedy in the message about a missing column."""
        name = self.columns[use]
        return f"a column `{name}`, once; set `{self.setting}.{use}` to one of those there: {', '.join(there)}"


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        path: of its file; for the hub the data set's name.
        number: its line, or its row in a file without lines, from 1.
        values: use -> value as in the file.
    """

    path: Path
    number: int
    values: dict[str, Any]

    def text(self, use: str, *, setting: str) -> str:
        """The value of a use, which has to be text.

        Raises:
            RefusedInput: anything else, or text that UTF-8 cannot hold.
        """
        value = self.values[use]
        if not isinstance(value, str):
            instead = f"; mend the row, or {setting}.skip_blank: true" if value is None else ""
            allowed = f"text in the {use} column, not {type(value).__name__}{instead}"
            raise bad_row(self.path, self.number, allowed, setting=setting)
        try:
            value.encode()
        except UnicodeEncodeError as error:  # JSON may hold half a surrogate pair, which tokenizers refuse
            raise bad_row(self.path, self.number, f"text that UTF-8 can hold ({error})", setting=setting) from error
        return value


def read_rows(origin: OriginConfig, wanted: Wanted) -> Iterator[TableRow]:
    """Yield every row, in files sorted by path; memory is bounded by the longest row.

    Raises:
        RefusedInput: missing or damaged files, rows that do not parse, columns that are not there.
    """
    if origin.source == "hub":
        yield from _hub(origin, wanted)
        return
    reader = {"json": _json, "csv": _csv, "tsv": _tsv, "parquet": _parquet}[origin.source]
    for path in list_files(origin, setting=wanted.setting):
        if not (origin.skip_blank and _is_empty(path, wanted.setting)):
            yield from reader(path, wanted)


def is_blank(value: Any) -> bool:
    """Whether a value is null or blank."""
    return value is None or (isinstance(value, str) and not value.strip())


def _is_empty(path: Path, setting: str) -> bool:
    with opened(path, setting=setting) as source:
        return not source.peek(1)


def bad_row(path: Path, row: int, allowed: str, *, setting: str) -> RefusedInput:
    """The refusal of one row of a file."""
    return refused(path, allowed, setting=setting, where=f"row {row}")


def _json(path: Path, wanted: Wanted) -> Iterator[TableRow]:
    for number, line in enumerate(read_lines(path, setting=wanted.setting), start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            found = ", not an array; write each of its objects on a line" if line.lstrip()[:1] == "[" else ""
            raise bad_row(path, number, f"one JSON object per line{found}", setting=wanted.setting)
        for use, name in wanted.columns.items():
            if name not in row:
                raise bad_row(path, number, wanted.missing(use, row), setting=wanted.setting)
        yield TableRow(path, number, {use: row[name] for use, name in wanted.columns.items()})


def _csv(path: Path, wanted: Wanted) -> Iterator[TableRow]:
    csv.field_size_limit(sys.maxsize)  # the module's own 128 KiB is less than a long document
    rows = csv.reader(read_lines(path, setting=wanted.setting), strict=True)
    ended = 0  # the line where the last good row ended, for messages about a quote that is never closed

    def numbered() -> Iterator[tuple[int, list[str]]]:
        nonlocal ended
        for row in rows:
            ended = rows.line_num
            yield ended, row

    try:
        yield from _plain(path, numbered(), wanted)
    except csv.Error as error:
        allowed = f"well-formed csv from there on ({error})"
        if "new-line character" in str(error):
            allowed = (
                "lines that end with a line feed, or with both; these end with a carriage return alone, convert them"
            )
        raise bad_row(path, ended + 1, allowed, setting=wanted.setting) from error


def _tsv(path: Path, wanted: Wanted) -> Iterator[TableRow]:
    lines = enumerate(read_lines(path, setting=wanted.setting), start=1)
    yield from _plain(path, ((number, line.rstrip("\r\n").split("\t")) for number, line in lines), wanted)


def _plain(path: Path, rows: Iterator[tuple[int, list[str]]], wanted: Wanted) -> Iterator[TableRow]:
    header = list(wanted.header) or next((row for _, row in rows if any(row)), [])
    if len(header) == 1 and header[0] not in wanted.columns.values():
        for other, name in {"\t": "tabs", ";": "semicolons", ",": "commas"}.items():
            if other in header[0]:
                instead = {"\t": "source: tsv", ",": "source: csv"}.get(other, "save it with commas and source: csv")
                raise bad_row(path, 1, f"{instead}, as {name} set these columns apart", setting=wanted.setting)
    places = wanted.places(header, path, row=1)
    for number, row in rows:
        if not any(row):
            continue
        if len(row) != len(header):
            allowed = f"{len(header)} fields as in the header, not {len(row)}"
            raise bad_row(path, number, allowed, setting=wanted.setting)
        yield TableRow(path, number, {use: row[place] for use, place in places.items()})


def _parquet(path: Path, wanted: Wanted) -> Iterator[TableRow]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with opened(path, setting=wanted.setting) as source:
            # Reading parquet needs seeking, which a gzip stream cannot do.
            whole = source if source.seekable() else pyarrow.BufferReader(source.read())
            table = pyarrow.parquet.ParquetFile(whole)
            there = table.schema_arrow.names
            for use, name in wanted.columns.items():
                if there.count(name) != 1:
                    raise refused(path, wanted.missing(use, there), setting=wanted.setting, where="its columns")
            names = list(dict.fromkeys(wanted.columns.values()))
            for batch in table.iter_batches(_PARQUET_ROWS, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield TableRow(path, number, {use: row[name] for use, name in wanted.columns.items()})
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        allowed = f"an undamaged parquet file ({error})"
        raise bad_row(path, number + 1, allowed, setting=wanted.setting) from error


def _hub(origin: OriginConfig, wanted: Wanted) -> Iterator[TableRow]:
    path = Path(str(origin.dataset))
    for number, row in enumerate(hub_rows(origin, setting=wanted.setting), start=1):
        for use, column in wanted.columns.items():
            if column not in row:
                raise RefusedInput([Fault(f"{wanted.setting}.{use}", column, wanted.missing(use, row))])
        yield TableRow(path, number, {use: row[column] for use, column in wanted.columns.items()})
