"""Files of JSON lines that survive a crash: one write per line, and no line is trusted that is not whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from espalier.storage.local import LocalStorage

_MAX_BYTES = 16 * 2**30


def prepare(path: Path) -> None:
    """Make the folder, and end a line that a crash cut off, so that the next one does not stick to it."""
    files = _files(path.parent)
    files.make_folder(".")
    if files.exists(path.name) and files.read_end(path.name, 1) not in (b"\n", b""):
        files.append(path.name, b"\n")


def append(path: Path, value: dict[str, Any]) -> None:
    """Write one line at the end, in the operating system's hands when this returns."""
    _files(path.parent).append(path.name, _line(value))


def sync(path: Path) -> None:
    """Let what was appended outlive a power cut; nothing to do where there is no file."""
    files = _files(path.parent)
    if files.exists(path.name):
        files.sync_file(path.name)


def rewrite(path: Path, values: Iterable[dict[str, Any]]) -> None:
    """Replace the whole file; a crash leaves the old one or the new one, never a part."""
    _files(path.parent).replace(path.name, b"".join(map(_line, values)))


def parse(line: bytes) -> dict[str, Any] | None:
    """The object on one line; None for a line that a crash cut off."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines, in order; none when there is no file."""
    return [value for line in _content(path).splitlines() if (value := parse(line)) is not None]


def _content(path: Path) -> bytes:
    try:
        return _files(path.parent).read_bytes(path.name, max_bytes=_MAX_BYTES)
    except FileNotFoundError:
        return b""


@lru_cache
def _files(folder: Path) -> LocalStorage:
    return LocalStorage(folder)  # looking at every part of its path takes longer than writing a line


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"
