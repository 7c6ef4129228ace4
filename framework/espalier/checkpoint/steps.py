"""The checkpoints of one stage: their names, the newest one, and which are kept."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import check_files, discard, is_committed, load_manifest
from espalier.checkpoint.storage import Storage

_STEP = re.compile(r"^step-(\d{8,})$")


@dataclass(frozen=True)
class Latest:
    """Where to go on from.

    Attributes:
        folder: of the newest checkpoint that can be used; None when there is none.
        damaged: newer ones that were passed over, to be reported.
    """

    folder: str | None
    damaged: tuple[DamagedCheckpoint, ...] = ()


def stage_folder(stage: str) -> str:
    """Folder of a stage in its run."""
    return f"stages/{stage}"


def step_folder(stage: str, step: int) -> str:
    """Folder of a checkpoint in its run: `stages/heal/step-00000500`."""
    return f"{stage_folder(stage)}/step-{step:08d}"


def latest(storage: Storage, folder: str, *, verify: bool = True) -> Latest:
    """The newest checkpoint of a stage, by step, that is committed and as it was written.

    Args:
        folder: of the stage.
        verify: hash every file; without it only the manifest and the files' sizes are checked.

    Raises:
        RefusedInput: a newer espalier wrote it; an older checkpoint is not used in its place.
    """
    damaged: list[DamagedCheckpoint] = []
    for step, candidate in _newest_first(storage, folder):
        if not is_committed(storage, candidate):
            continue
        try:
            _check(storage, candidate, step=step, verify=verify)
        except DamagedCheckpoint as error:
            damaged.append(error)
        else:
            return Latest(candidate, tuple(damaged))
    return Latest(None, tuple(damaged))


def retain(storage: Storage, folder: str, *, keep_latest: int, keep: Collection[str] = ()) -> tuple[str, ...]:
    """Remove what is no longer needed: by rank zero, after a commit, while nothing else writes to the stage.

    A damaged checkpoint takes no place among those kept, and neither it nor what a stopped save left behind
    is removed before a newer one that can be used exists.

    Args:
        folder: of the stage.
        keep_latest: how many to keep, at least 1: the newest that can be used is never removed.
        keep: folders to keep beside them, such as the one being read.

    Returns:
        The folders that were removed.
    """
    assert keep_latest >= 1, "the newest checkpoint is never removed"
    removed: list[str] = []
    num_kept = 0
    for step, candidate in _newest_first(storage, folder):
        if candidate in keep:
            continue
        usable = is_committed(storage, candidate) and _is_usable(storage, candidate, step)
        if num_kept == 0 or (usable and num_kept < keep_latest):
            num_kept += usable
        else:
            discard(storage, candidate)
            removed.append(candidate)
    return tuple(removed)


def _newest_first(storage: Storage, folder: str) -> list[tuple[int, str]]:
    found = ((int(match[1]), f"{folder}/{name}") for name in storage.list(folder) if (match := _STEP.match(name)))
    return sorted(found, reverse=True)


def _is_usable(storage: Storage, candidate: str, step: int) -> bool:
    try:
        _check(storage, candidate, step=step, verify=False)
    except DamagedCheckpoint:
        return False
    return True


def _check(storage: Storage, candidate: str, *, step: int, verify: bool) -> None:
    manifest = load_manifest(storage, candidate)
    if manifest.origin.step != step:
        raise DamagedCheckpoint(candidate, [f"it is of step {manifest.origin.step}"])
    check_files(storage, candidate, manifest, verify=verify)
