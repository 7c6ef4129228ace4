"""Files that a command writes for people, each with a record beside it, by which it is known as ours.

The record says what the file was made from. A file is replaced only while it is exactly as its record says, so neither
a table of the user's nor a list that somebody has edited is lost.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import Field

from espalier import __version__
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import unfinished
from espalier.storage.local import LocalStorage, xxh3_of
from espalier.storage.records import Versioned, read_record

SUFFIX = ".espalier.json"


class WrittenFile(Versioned):
    """The record of a file.

    Attributes:
        xxh3: hash of the file as it was written.
        made_from: what it was made from and how, JSON values.
    """

    what: str
    espalier: str
    date: str
    xxh3: str
    made_from: dict[str, Any] = Field(default_factory=dict)


def record_of(path: Path) -> WrittenFile | None:
    """The record beside a file; None without one."""
    remedy = "the record as espalier wrote it; name another file, or remove both"
    return read_record(WrittenFile, _beside(path), what="record of a written file", remedy=remedy)


def require_replaceable(path: Path, *, setting: str) -> None:
    """Refuse a path where nothing may be written.

    Raises:
        RefusedInput: a folder or link, a file that this command has not written or that was changed since, or a file in
            a folder that does not exist.
    """
    if not path.absolute().parent.is_dir():
        raise RefusedInput([Fault(setting, str(path), f"a file in a folder that exists; {path.parent} does not")])
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_file():
        raise RefusedInput([Fault(setting, str(path), "a new file; this is a folder or a link")])
    record = record_of(path)
    if record is None:
        given = f"names {path}, a file that was not written by this command"
    elif record.xxh3 != xxh3_of(path):
        given = f"names {path}, which was changed since it was written"
    else:
        return
    raise RefusedInput([Fault(setting, str(path), "a new file; existing ones are never overwritten", given=given)])


@contextmanager
def written(path: Path, *, what: str, setting: str, made_from: dict[str, Any]) -> Iterator[BinaryIO]:
    """Open a file for writing; it appears whole at the end of the block, after its record, or not at all.

    Args:
        what: one or two words for people, such as `corrected table`.
        setting: the option that names the path, for messages.
        made_from: written into the record at the end of the block, so the block may add to it.

    Raises:
        RefusedInput: see `require_replaceable`.
    """
    require_replaceable(path, setting=setting)
    made = path.with_name(unfinished(path.name))
    try:
        with made.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        date = datetime.now(UTC).isoformat(timespec="seconds")
        record = WrittenFile(what=what, espalier=__version__, date=date, xxh3=xxh3_of(made), made_from=made_from)
        files = LocalStorage(path.absolute().parent)
        files.replace(_beside(path).name, record.model_dump_json(indent=2).encode())
        files.rename(made.name, path.name)
        files.sync_folder(".")
    finally:
        with suppress(FileNotFoundError):
            made.unlink()


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)
