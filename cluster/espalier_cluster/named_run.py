"""Find the run that a person names: by its folder, or by its name and the storage."""

from __future__ import annotations

import os
from pathlib import Path

from espalier.config.base import NAME
from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage

STORAGE = "ESPALIER_STORAGE"
"""Variable with the storage that names are looked up in, where `--storage` is not given."""


def find_run(named: str, storage: Path | None = None) -> RunFolder:
    """The folder of a run.

    Args:
        named: a folder, when it holds a slash; otherwise a name in the storage.
        storage: None: what the variable says, or the current folder.

    Raises:
        RefusedInput: there is no such run.
    """
    if "/" in named or named in (".", ".."):
        folder = Path(named).absolute()
        if not RunFolder(folder).ids():
            raise RefusedInput([Fault("run", named, "the folder of a run, `<storage>/<name>`; it has a run.json")])
        return RunFolder(folder)
    place = storage or Path(os.environ.get(STORAGE) or ".")
    if not NAME.fullmatch(named):
        raise RefusedInput([Fault("run", named, "the name of a run, or its folder with a slash")])
    folder = place.absolute() / named
    if not RunFolder(folder).ids():
        known = names_in(place)
        allowed = f"a run in {place.absolute()}; give another --storage, set {STORAGE}, or name the run's folder"
        raise RefusedInput([Fault("run", named, allowed, nearest(named, known))])
    return RunFolder(folder)


def names_in(storage: Path | None = None) -> list[str]:
    """The names of the runs in a storage; None for where names are looked up by default."""
    place = storage or Path(os.environ.get(STORAGE) or ".")
    return [name for name in LocalStorage(place).list(".") if (place / name / "run.json").exists()]
