"""Labelled tables in every format, and their rows read back with plain libraries."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

Rows = Sequence[dict[str, Any]]


def write_table(path: Path, source: str, rows: Rows) -> Path:
    if source == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path, compression="zstd")
    elif source == "json":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif source == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), quoting=csv.QUOTE_NONNUMERIC)
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [rows[0].keys(), *(row.values() for row in rows)]
        path.write_text("".join("\t".join(map(str, line)) + "\r\n" for line in lines), newline="")
    return path


def read_table(path: Path, source: str) -> list[dict[str, Any]]:
    if source == "parquet":
        found: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
        return found
    if source == "json":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        if source == "csv":
            return list(csv.DictReader(file))
        return [dict(row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
