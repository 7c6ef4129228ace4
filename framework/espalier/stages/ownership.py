"""Check that a folder belongs to a run, and mark it as one: files are replaced and removed only in such a folder.

The first file that a run writes is `run.json`. A folder without it is accepted only when it is empty.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from espalier.config.base import Record
from espalier.config.faults import Fault, RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.storage.contract import is_unfinished
from espalier.storage.records import SCHEMA, read_record

_RUN_FILE = "run.json"
_STARTING = re.compile(r"lock(\.[0-9a-f]{32})?")  # the lock comes first, and names of its own beside it


def require_own(folder: RunFolder) -> None:
    """Refuse a folder that holds anything else than a run.

    Raises:
        RefusedInput: naming a file in it. Nothing was changed.
    """
    path = folder.path
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_dir():
        raise _refused(path, "is no folder")
    ids = folder.ids()
    if "espalier" in ids.get("versions", {}):
        return
    names = sorted(one.name for one in path.iterdir())
    others = [name for name in names if not is_unfinished(name, of=_RUN_FILE) and not _is_lock(path / name)]
    if others and not _holds_seeds(path, others):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise _refused(path, f"holds `{others[0]}`{more} and no `{_RUN_FILE}` of a run, so no run has made it")


def claim(folder: RunFolder, *, versions: dict[str, str]) -> str:
    """Write the run's ids into the folder if it has none; returns the run's id."""
    if not folder.ids():
        _write(folder, {"run_id": secrets.token_hex(8), "versions": versions})
    return folder.ids()["run_id"]


def begin_anew(folder: RunFolder) -> None:
    """Give the folder a new tracker id, because what follows is another run in the same folder."""
    old = folder.ids()
    if old:
        _write(folder, {"run_id": old["run_id"], "versions": old["versions"]})


def _write(folder: RunFolder, known: dict[str, Any]) -> None:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    ids = {"run_id": known["run_id"], "wandb_id": secrets.token_hex(4)}
    folder.write_json(_RUN_FILE, {"schema_version": SCHEMA, **ids, "created": created, "versions": known["versions"]})


def _is_lock(path: Path) -> bool:
    """Whether a file is the lock of a run that starts in an empty folder, or the clock probe beside it."""
    if not _STARTING.fullmatch(path.name):
        return False
    try:
        sign = read_record(_LockSign, path, what="lock", remedy="")
    except RefusedInput:
        return path.name != "lock" and path.is_file() and path.stat().st_size == 0
    return path.name == "lock" and sign is not None


class _LockSign(Record):
    token: str
    pid: int
    job: str


def _holds_seeds(path: Path, names: list[str]) -> bool:
    """Whether the folder holds only runs of several seeds, for which earlier versions wrote no run.json."""
    own = re.compile(rf"{re.escape(path.name)}-seed-[0-9]+(\.json|\.log)?|seeds\.json")
    children = [path / name for name in names if (path / name).is_dir() and not (path / name).is_symlink()]
    return all(map(own.fullmatch, names)) and any(RunFolder(child).ids() for child in children)


def _refused(path: Path, given: str) -> RefusedInput:
    allowed = "a folder that espalier has made, or none yet; choose another name or storage, or move it away yourself"
    return RefusedInput([Fault(str(path), None, allowed, given=given)])
