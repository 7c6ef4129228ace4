"""A copy of a labelled table with some labels changed and some rows left out; everything else stays as it is."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from espalier.config.labelled import TableConfig
from espalier.data.files import opened, read_lines

_PARQUET_ROWS = 4096

Item = TypeVar("Item")
Write = Callable[[str], None]


@dataclass(frozen=True)
class Edits:
    """What to change in a table. A row goes by its name: its value in the id column, or its number as in `rows`.

    Attributes:
        labels: row -> the new value of its label column, as the file has such values.
        dropped: rows to leave out.
    """

    labels: Mapping[str, Any]
    dropped: frozenset[str]

    def name(self, table: TableConfig, values: Mapping[str, Any], number: int) -> str:
        return str(values[table.id]) if table.id else str(number)


def copy_table(table: TableConfig, path: Path, edits: Edits, target: BinaryIO, *, setting: str) -> None:
    """Write a copy of one file of a table, unpacked, in the table's own format.

    Rows that do not change are copied to the byte (parquet: value by value, with the file's schema and compression).

    Args:
        path: a file that `read_rows` reads without a fault.
        setting: path of the table in the job file, for messages.
    """
    if table.source == "parquet":
        _copy_parquet(table, path, edits, target, setting)
        return
    lines = read_lines(path, setting=setting)

    def write(text: str) -> None:
        target.write(text.encode())

    if table.source == "json":
        _copy_json(table, lines, edits, write)
    else:
        _copy_plain(table, _csv_rows(lines) if table.source == "csv" else _tsv_rows(lines), edits, write)


def _copy_json(table: TableConfig, lines: Iterable[str], edits: Edits, write: Write) -> None:
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            write(line)
            continue
        row = json.loads(line)
        name = edits.name(table, row, number)
        if name in edits.labels:
            end = line[len(line.rstrip("\r\n")) :]
            write(json.dumps(row | {table.label: edits.labels[name]}, ensure_ascii=False) + end)
        elif name not in edits.dropped:
            write(line)


@dataclass(frozen=True)
class _PlainRow:
    """One row of a csv or tsv file: its last line's number, its fields, its text, and how to write other fields."""

    number: int
    fields: Sequence[str]
    text: str
    written: Callable[[Sequence[str]], str]


def _copy_plain(table: TableConfig, rows: Iterator[_PlainRow], edits: Edits, write: Write) -> None:
    header = list(table.columns)
    for row in rows:
        if not any(row.fields) or not header:
            header = header or (list(row.fields) if any(row.fields) else [])
            write(row.text)
            continue
        name = edits.name(table, dict(zip(header, row.fields, strict=True)), row.number)
        if name in edits.labels:
            place = header.index(table.label)
            write(row.written([*row.fields[:place], edits.labels[name], *row.fields[place + 1 :]]))
        elif name not in edits.dropped:
            write(row.text)


def _tsv_rows(lines: Iterable[str]) -> Iterator[_PlainRow]:
    for number, line in enumerate(lines, start=1):
        bare = line.rstrip("\r\n")
        end = line[len(bare) :]
        yield _PlainRow(number, bare.split("\t"), line, lambda fields, end=end: "\t".join(fields) + end)  # type: ignore[misc]


def _csv_rows(lines: Iterable[str]) -> Iterator[_PlainRow]:
    csv.field_size_limit(sys.maxsize)
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(noted(), strict=True)
    for fields in reader:
        text = "".join(taken)
        taken.clear()
        end = text[len(text.rstrip("\r\n")) :]
        yield _PlainRow(reader.line_num, fields, text, lambda values, end=end: _csv_line(values) + end)  # type: ignore[misc]


class _Line:
    """Takes what a csv writer writes."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def _csv_line(fields: Sequence[str]) -> str:
    line = _Line()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.text


def _copy_parquet(table: TableConfig, path: Path, edits: Edits, target: BinaryIO, setting: str) -> None:
    import pyarrow
    import pyarrow.parquet

    with opened(path, setting=setting) as source:
        file = pyarrow.parquet.ParquetFile(source if source.seekable() else pyarrow.BufferReader(source.read()))
        schema, number = file.schema_arrow, 0
        place = schema.names.index(table.label)
        with pyarrow.parquet.ParquetWriter(target, schema, compression=_compression(file.metadata)) as writer:
            for batch in file.iter_batches(_PARQUET_ROWS):
                numbers = range(number + 1, number + 1 + len(batch))
                number += len(batch)
                ids = batch.column(table.id).to_pylist() if table.id else numbers
                names = [edits.name(table, {table.id or "": one}, row) for one, row in zip(ids, numbers, strict=True)]
                labels = batch.column(place).to_pylist()
                changed = [edits.labels.get(name, label) for name, label in zip(names, labels, strict=True)]
                batch = batch.set_column(place, schema.field(place), pyarrow.array(changed, schema.field(place).type))
                writer.write_batch(batch.filter(pyarrow.array([name not in edits.dropped for name in names])))


def _compression(metadata: Any) -> str:
    if not metadata.num_row_groups or not metadata.num_columns:
        return "snappy"
    name = metadata.row_group(0).column(0).compression.lower()
    return "none" if name == "uncompressed" else name
