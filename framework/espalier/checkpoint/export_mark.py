"""How an export is known as ours: a file in it lists what was written, so that nothing else is ever replaced.

A `config.json` is no such sign, and a key in it neither: whoever trains an export further and saves it keeps both.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

import xxhash

from espalier.checkpoint.manifest import FileRecord
from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import is_unfinished, unfinished
from espalier.storage.local import LocalStorage, xxh3_of
from espalier.storage.records import Versioned, read_record

MARK = "espalier-export.json"
"""Its name in the export. Other programs read past it."""


class ExportMark(Versioned):
    """What an export consists of beside the mark itself. Of one that is being written only the names are known."""

    files: dict[str, FileRecord | None]


def write_mark(storage: LocalStorage, folder: str, files: dict[str, FileRecord | None]) -> None:
    """Say what belongs to the export in `folder`, in place of an earlier mark, whole or not at all."""
    made = unfinished(f"{folder}/{MARK}")
    storage.write_bytes(made, ExportMark(files=files).model_dump_json(indent=2).encode())
    storage.rename(made, f"{folder}/{MARK}")


def require_replaceable(path: Path, *, verify: bool = True) -> None:
    """Refuse to write where something lies that is not exactly an export as it was written.

    Args:
        verify: read all of its files and hold them to their hashes, not only to their names and sizes.

    Raises:
        RefusedInput: a file, a link, a folder that is no export, or an export that somebody has added to or changed.
    """
    if not path.exists() and not path.is_symlink():
        return
    if path.is_symlink() or not path.is_dir():
        raise _refused(path, "is a link" if path.is_symlink() else "is a file")
    names = _names(path)
    if not names:
        return
    if MARK not in names:
        raise _refused(path, f"holds {_listed(names)} and no `{MARK}`, so it is no export that may be replaced")
    files = _files(path)
    if strange := [name for name in names if name not in files and name != MARK]:
        raise _refused(path, f"holds {_listed(strange)} beside an export")
    written = [name for name in files if name in names]
    if changed := [name for name in written if not _is_as_written(path / name, files[name], verify=verify)]:
        raise _refused(path, f"holds {_listed(changed)} not as the export left it")


def export_hash(path: Path) -> str:
    """Hash of an export's files, after each was held to its own; files that somebody has put beside them do not count.

    Raises:
        RefusedInput: a folder that is no export, or an export of which a file is missing or changed.
    """
    names, allowed = _names(path), "an export as espalier wrote it; export the model again"
    if MARK not in names:
        raise RefusedInput([Fault(str(path), None, allowed, given=f"holds no `{MARK}`")])
    files = _files(path)
    if changed := [n for n, one in files.items() if n not in names or not _is_as_written(path / n, one, verify=True)]:
        raise RefusedInput([Fault(str(path), None, allowed, given=f"holds {_listed(changed)} not as it was written")])
    digest = xxhash.xxh3_128()
    for name, record in sorted(files.items()):
        digest.update(f"{name} {record.xxh3 if record else ''}\n".encode())
    return digest.hexdigest()


def is_left_over(path: Path) -> bool:
    """Whether a folder with an unfinished name holds nothing but an export that was stopped while it was written."""
    if path.is_symlink() or not path.is_dir():
        return False
    names = _names(path)
    rest = {name for name in names if name != MARK and not is_unfinished(name, of=MARK)}
    try:
        return not rest or (MARK in names and rest <= _files(path).keys())
    except RefusedInput:
        return False


def _names(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir())


def _files(path: Path) -> dict[str, FileRecord | None]:
    remedy = "the list of an export's files as it was written; name another folder, or remove this one yourself"
    mark = read_record(ExportMark, path / MARK, what="list of an export's files", remedy=remedy)
    return mark.files if mark else {}


def _is_as_written(path: Path, record: FileRecord | None, *, verify: bool) -> bool:
    status = path.lstat()
    if record is None or not stat.S_ISREG(status.st_mode) or status.st_size != record.num_bytes:
        return False
    return not verify or xxh3_of(path) == record.xxh3


def _listed(names: Iterable[str]) -> str:
    first, *others = [f"`{name}`" for name in names]
    return first + (f" and {len(others)} more" if others else "")


def _refused(path: Path, given: str) -> RefusedInput:
    allowed = "a new or empty folder, or an export that nobody has added to or changed; move this away, or name another"
    return RefusedInput([Fault(str(path), None, allowed, given=given)])
