"""Whether a folder is a run's: only there is anything written over or removed.

The first thing that a run writes is `run.json`. A folder without it is taken when there is nothing in it.
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
    """Refuse a folder that something else than a run of espalier has filled.

    Raises:
        RefusedInput: naming what lies there. Nothing was changed.
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
    """Make the folder this run's, and give the run its ids, where it has none; the run's id."""
    if not folder.ids():
        _write(folder, {"run_id": secrets.token_hex(8), "versions": versions})
    return folder.ids()["run_id"]


def begin_anew(folder: RunFolder) -> None:
    """What comes is another run in the same folder: for W&B, too."""
    old = folder.ids()
    if old:
        _write(folder, {"run_id": old["run_id"], "versions": old["versions"]})


def _write(folder: RunFolder, known: dict[str, Any]) -> None:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    ids = {"run_id": known["run_id"], "wandb_id": secrets.token_hex(4)}
    folder.write_json(_RUN_FILE, {"schema_version": SCHEMA, **ids, "created": created, "versions": known["versions"]})


def _is_lock(path: Path) -> bool:
    """Whether it is the lock of a run that begins in an empty folder, or the file beside it that asks for the time."""
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
    """Whether all in it is of the runs of several seeds, as espalier left them before it marked their folder."""
    own = re.compile(rf"{re.escape(path.name)}-seed-[0-9]+(\.json|\.log)?|seeds\.json")
    children = [path / name for name in names if (path / name).is_dir() and not (path / name).is_symlink()]
    return all(map(own.fullmatch, names)) and any(RunFolder(child).ids() for child in children)


def _refused(path: Path, given: str) -> RefusedInput:
    allowed = "a folder that espalier has made, or none yet; choose another name or storage, or move it away yourself"
    return RefusedInput([Fault(str(path), None, allowed, given=given)])
