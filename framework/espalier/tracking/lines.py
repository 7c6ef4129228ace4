"""Files of JSON lines that survive a crash: one write per line, and no line is trusted that is not whole."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def prepare(path: Path) -> None:
    """Make the folder, and end a line that a crash cut off, so that the next one does not stick to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not _ends_whole(path):
        with path.open("ab", buffering=0) as file:
            file.write(b"\n")


def append(path: Path, value: dict[str, Any]) -> None:
    """Write one line at the end.

    The file is opened anew each time: closing is what makes a line visible to other hosts on a network file
    system, and the file may have been replaced by `rewrite` meanwhile.
    """
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(value, allow_nan=False).encode() + b"\n")


def rewrite(path: Path, values: Iterable[dict[str, Any]]) -> None:
    """Replace the whole file; a crash leaves the old one or the new one, never a part."""
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.writelines(json.dumps(value, allow_nan=False).encode() + b"\n" for value in values)
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def parse(line: bytes) -> dict[str, Any] | None:
    """The object on one line; None for a line that a crash cut off."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines, in order; none when there is no file."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [value for line in lines if (value := parse(line)) is not None]


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        return file.read(1) in (b"\n", b"")
