"""Reading the small files of a run: whoever can write to a storage may have written them.

Nothing of a file is used before it has the schema of its kind, so no reader meets an odd value, a nest of a million
brackets or a pipe where a file should be. What is wrong is one sentence that names the file.
"""

from __future__ import annotations

import errno
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from espalier.config.base import Record
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.local import LocalStorage

SCHEMA = 1
"""Of the small files that carry a version. Raised when an older espalier could no longer read what is written."""

MAX_BYTES = 64 * 2**20
_LONGEST_REASON = 200
NO_FILE = (errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENOTDIR)
"""What the system answers where something else stands in a file's place."""

Kind = TypeVar("Kind")


class Versioned(Record):
    """A small file that says in which version of its schema it was written; the first one did not say so."""

    schema_version: int = SCHEMA


def read_record(kind: type[Kind], path: Path, *, what: str, remedy: str, max_bytes: int = MAX_BYTES) -> Kind | None:
    """The value of one small file; None when there is none.

    Args:
        kind: a `Record`, or a type made of them.
        path: links on the way to it are followed, as a finished stage may have been moved elsewhere.
        what: the file's kind, as in `is no {what}`.
        remedy: what to do about a file that cannot be read.

    Raises:
        RefusedInput: it is something else, too large, or written by a newer espalier.
        OSError: the disk refuses.
    """
    try:
        data = LocalStorage(path.parent).read_bytes(path.name, max_bytes=max_bytes)
    except FileNotFoundError:
        return None
    except RefusedInput:
        raise unreadable(path, what=what, reason="it is a link to somewhere else", remedy=remedy) from None
    except ValueError:
        raise unreadable(path, what=what, reason=f"it is larger than {max_bytes} bytes", remedy=remedy) from None
    except OSError as error:
        if error.errno not in NO_FILE:
            raise
        raise unreadable(path, what=what, reason=str(error.strerror), remedy=remedy) from None
    return parse_record(kind, data, path=path, what=what, remedy=remedy)


def parse_record(kind: type[Kind], data: bytes, *, path: Path, what: str, remedy: str) -> Kind:
    """The value that JSON text holds; see `read_record`."""
    try:
        value = _adapter(kind).validate_json(data)
    except ValidationError as error:
        _refuse_newer(_version(data), path)
        raise unreadable(path, what=what, reason=first_reason(error), remedy=remedy) from None
    if isinstance(value, Versioned):
        _refuse_newer(value.schema_version, path)
    return value


def unreadable(path: Path, *, what: str, reason: str, remedy: str) -> RefusedInput:
    """The refusal of a file that is not what it should be."""
    return RefusedInput([Fault(str(path), None, remedy, given=f"is no {what} ({reason[:_LONGEST_REASON]})")])


def first_reason(error: ValidationError) -> str:
    """Where the first fault is and what it is."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]


def _version(data: bytes) -> int:
    try:
        return Versioned.model_validate_json(data).schema_version
    except ValidationError:
        return SCHEMA


def _refuse_newer(version: int, path: Path) -> None:
    if version > SCHEMA:
        allowed = f"files up to version {SCHEMA}; a newer espalier wrote this one, so upgrade this one"
        raise RefusedInput([Fault(f"{path}: schema_version", version, allowed)])


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
