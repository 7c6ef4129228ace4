"""Read the small JSON files of a run and validate them: anybody who can write to the storage may have written them.

A file is validated against its schema before any value of it is used, so no reader meets an unexpected type, JSON
nested a million levels deep, or a pipe in the place of a file. Each error is one sentence that names the file.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from espalier.config.base import Record
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.local import LocalStorage

SCHEMA = 1
"""Schema version of the files that carry one. Increase it when older versions can no longer read a file."""

MAX_BYTES = 64 * 2**20
_LONGEST_REASON = 200
NO_FILE = (errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENOTDIR)
"""errno values for a path that is no regular file: a folder, a device, a loop of links."""

Kind = TypeVar("Kind")

_ADAPTERS: dict[object, TypeAdapter[Any]] = {}


class Versioned(Record):
    """A small file that carries its schema version; the first version did not write it."""

    schema_version: int = SCHEMA


def read_record(kind: type[Kind], path: Path, *, what: str, remedy: str, max_bytes: int = MAX_BYTES) -> Kind | None:
    """Read and validate one small file; None when it does not exist.

    Args:
        kind: the schema: a `Record`, or a type made of them.
        path: links in it are followed, because a finished stage may have been moved elsewhere.
        what: the file's kind, for messages: `is no {what}`.
        remedy: what the user can do about a file that cannot be read.

    Raises:
        RefusedInput: it does not have the schema, is too large, or was written by a newer espalier.
        OSError: the disk cannot be read.
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
    """Parse and validate JSON text; see `read_record`."""
    try:
        value = adapter(kind).validate_json(data)
    except ValidationError as error:
        _refuse_newer(_version(data), path)
        raise unreadable(path, what=what, reason=first_reason(error), remedy=remedy) from None
    if isinstance(value, Versioned):
        _refuse_newer(value.schema_version, path)
    return value


def unreadable(path: Path, *, what: str, reason: str, remedy: str) -> RefusedInput:
    """The error for a file that cannot be read as its kind."""
    return RefusedInput([Fault(str(path), None, remedy, given=f"is no {what} ({reason[:_LONGEST_REASON]})")])


def first_reason(error: ValidationError) -> str:
    """Path and message of the first error of a validation."""
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


def adapter(kind: type[Kind]) -> TypeAdapter[Kind]:
    """The validator of a schema; each is built once per process."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
