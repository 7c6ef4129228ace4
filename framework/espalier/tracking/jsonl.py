"""Files of JSON lines that survive a crash: each line is one write, and a line that was cut off is ignored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from espalier.config.faults import RefusedInput
from espalier.storage.local import LocalStorage
from espalier.storage.records import NO_FILE, adapter, first_reason, unreadable

_MAX_BYTES = 16 * 2**30
_REMEDY = "lines as espalier wrote them; remove that line, or bring back a copy of the file"

Kind = TypeVar("Kind")


def prepare(path: Path) -> None:
    """Create the folder, and end the last line if a crash cut it off, so that the next one starts on its own line."""
    files = _files(path.parent)
    files.make_folder(".")
    if files.exists(path.name) and files.read_end(path.name, 1) not in (b"\n", b""):
        files.append(path.name, b"\n")


def append(path: Path, value: dict[str, Any]) -> None:
    """Append one line. When this returns the operating system has it; `sync` makes it durable."""
    _files(path.parent).append(path.name, _line(value))


def sync(path: Path) -> None:
    """Make appended lines durable against a power cut; does nothing when there is no file."""
    files = _files(path.parent)
    if files.exists(path.name):
        files.sync_file(path.name)


def rewrite(path: Path, values: Iterable[dict[str, Any]]) -> None:
    """Replace the whole file atomically: a crash leaves the old file or the new one."""
    _files(path.parent).replace(path.name, b"".join(map(_line, values)))


def parse(line: bytes) -> dict[str, Any] | None:
    """Parse one line as a JSON object; None for a line that a crash cut off."""
    try:
        value = from_json(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parse_as(line: bytes, kind: type[Kind]) -> Kind | None:
    """Parse one line as a record; None for a line that is cut off or has another schema, so that a follower goes on."""
    try:
        return adapter(kind).validate_json(line)
    except ValidationError:
        return None


def read_as(path: Path, kind: type[Kind]) -> list[Kind]:
    """Parse all complete lines as records, in order; empty when there is no file. Unknown keys are ignored.

    Raises:
        RefusedInput: a complete line has another schema; the message gives its number.
    """
    found: list[Kind] = []
    for number, line in enumerate(_content(path).splitlines(), start=1):
        try:
            found.append(adapter(kind).validate_json(line))
        except ValidationError as error:
            if parse(line) is not None:
                reason = f"line {number}, {first_reason(error)}"
                raise unreadable(path, what="record of a run", reason=reason, remedy=_REMEDY) from None
    return found


def read_known(path: Path, kind: type[Kind]) -> list[Kind]:
    """As `read_as`, but skip lines with another schema."""
    return [value for line in _content(path).splitlines() if (value := parse_as(line, kind)) is not None]


def read(path: Path) -> list[dict[str, Any]]:
    """Parse all complete lines as JSON objects, in order; empty when there is no file."""
    return [value for line in _content(path).splitlines() if (value := parse(line)) is not None]


def read_last(path: Path, kind: type[Kind], *, max_bytes: int) -> list[Kind]:
    """The records of a kind among the last complete lines of a file, in order.

    Args:
        max_bytes: what is read of the file's end. Lines of another schema are skipped.
    """
    data = _named(path, lambda files: files.read_end(path.name, max_bytes))
    lines = data[: data.rfind(b"\n") + 1].splitlines()  # the first may be cut off, and is no record then
    return [value for line in lines if (value := parse_as(line, kind)) is not None]


def _content(path: Path) -> bytes:
    return _named(path, lambda files: files.read_bytes(path.name, max_bytes=_MAX_BYTES))


def _named(path: Path, read: Callable[[LocalStorage], bytes]) -> bytes:
    try:
        return read(_files(path.parent))
    except FileNotFoundError:
        return b""
    except RefusedInput:
        raise unreadable(path, what="record of a run", reason="a link to somewhere else", remedy=_REMEDY) from None
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise unreadable(path, what="record of a run", reason=str(error.strerror), remedy=_REMEDY) from None


@lru_cache
def _files(folder: Path) -> LocalStorage:
    return LocalStorage(folder)  # cached because resolving the path takes longer than appending a line


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"
