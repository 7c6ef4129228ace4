"""Files of JSON lines that survive a crash: one write per line, and no line is trusted that is not whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from espalier.config.faults import RefusedInput
from espalier.storage.local import LocalStorage
from espalier.storage.records import NO_FILE, first_reason, unreadable

_MAX_BYTES = 16 * 2**30
_REMEDY = "lines as espalier wrote them; remove that line, or bring back a copy of the file"

Kind = TypeVar("Kind")


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
        value = from_json(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parse_as(line: bytes, kind: type[Kind]) -> Kind | None:
    """What one line says; None where it is cut off, or says something else: whoever watches a run goes on."""
    try:
        return _adapter(kind).validate_json(line)
    except ValidationError:
        return None


def read_as(path: Path, kind: type[Kind]) -> list[Kind]:
    """What all whole lines say, in order; none when there is no file. Keys that are not known are passed over.

    Raises:
        RefusedInput: a line that is whole and says something else; its number is told.
    """
    found = []
    for number, line in enumerate(_content(path).splitlines(), start=1):
        try:
            found.append(_adapter(kind).validate_json(line))
        except ValidationError as error:
            if parse(line) is not None:
                reason = f"line {number}, {first_reason(error)}"
                raise unreadable(path, what="record of a run", reason=reason, remedy=_REMEDY) from None
    return found


def read_known(path: Path, kind: type[Kind]) -> list[Kind]:
    """As `read_as`, without the lines that say something else."""
    return [value for line in _content(path).splitlines() if (value := parse_as(line, kind)) is not None]


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines, in order; none when there is no file."""
    return [value for line in _content(path).splitlines() if (value := parse(line)) is not None]


def _content(path: Path) -> bytes:
    try:
        return _files(path.parent).read_bytes(path.name, max_bytes=_MAX_BYTES)
    except FileNotFoundError:
        return b""
    except RefusedInput:
        raise unreadable(path, what="record of a run", reason="a link to somewhere else", remedy=_REMEDY) from None
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise unreadable(path, what="record of a run", reason=str(error.strerror), remedy=_REMEDY) from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


@lru_cache
def _files(folder: Path) -> LocalStorage:
    return LocalStorage(folder)  # looking at every part of its path takes longer than writing a line


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"
