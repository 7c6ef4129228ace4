"""The checkpoints of one stage: their names, the newest one, and which are kept."""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from espalier.checkpoint.bases import check_state, standing_on
from espalier.checkpoint.manifest import DamagedCheckpoint, Manifest, Origin
from espalier.checkpoint.manifest_file import Hashed, discard, forget_unlisted, is_committed, load_manifest
from espalier.checkpoint.traces import is_of_checkpoint
from espalier.storage.contract import UNFINISHED, Storage

_STEP = re.compile(r"^step-(\d{8,})$")


@dataclass(frozen=True)
class Latest:
    """The checkpoint to resume from.

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


def latest(
    storage: Storage,
    folder: str,
    *,
    key: str | None = None,
    first_step: int = 0,
    verify: bool = True,
    hashed: Hashed | None = None,
) -> Latest:
    """The newest checkpoint of a stage, by step, that is committed and as it was written.

    Args:
        folder: of the stage.
        key: that it was made under; those of other keys are passed over without a word. None for any.
        first_step: those of earlier steps are passed over, too.
        verify: hash every file; without it only the manifest and the files' sizes are checked.
        hashed: see `check_files`.

    Raises:
        RefusedInput: a newer espalier wrote it; an older checkpoint is not used in its place.
    """
    damaged: list[DamagedCheckpoint] = []
    for step, candidate in _newest_first(storage, folder):
        if step < first_step or not is_committed(storage, candidate) or is_of_other_key(storage, candidate, key):
            continue
        try:
            _check(storage, candidate, step=step, verify=verify, hashed=hashed)
        except DamagedCheckpoint as error:
            damaged.append(error)
        else:
            return Latest(candidate, tuple(damaged))
    return Latest(None, tuple(damaged))


def newest_step(storage: Storage, folder: str, *, key: str | None = None) -> int:
    """Updates in the newest committed checkpoint of a stage (made under `key`), whole or not; 0 when there is none."""
    committed = (
        step
        for step, candidate in _newest_first(storage, folder)
        if is_committed(storage, candidate) and not is_of_other_key(storage, candidate, key)
    )
    return next(committed, 0)


def is_of_other_key(storage: Storage, folder: str, key: str | None) -> bool:
    """Whether a checkpoint says that it was made under another key; one that cannot be read says nothing."""
    if key is None:
        return False
    try:
        return load_manifest(storage, folder).state.get("key") != key
    except DamagedCheckpoint:
        return False


def keys_of(storage: Storage, folder: str, *, only: str = "") -> set[str]:
    """The keys that the committed checkpoints of a stage were made under, as far as they can be read.

    Args:
        only: name of the one that is asked for.
    """
    keys = set()
    for _, candidate in _newest_first(storage, folder):
        if is_committed(storage, candidate) and (not only or candidate == f"{folder}/{only}"):
            with suppress(DamagedCheckpoint):
                keys.add(str(load_manifest(storage, candidate).state.get("key")))
    return keys


def replaced(storage: Storage, folder: str, *, by: str) -> tuple[str, ...]:
    """The checkpoints of a stage that were made under another key, and before the one that has taken their place.

    Those stay that a state of another stage stands on, until that has been replaced, too.

    Args:
        by: folder of the checkpoint that the stage has come to.
    """
    try:
        new = load_manifest(storage, by)
    except DamagedCheckpoint:
        return ()
    found = []
    for _, candidate in _newest_first(storage, folder):
        if candidate != by and is_committed(storage, candidate) and _is_replaced(storage, candidate, new):
            found.append(candidate)
    needed = standing_on(storage) if found else ()
    return tuple(candidate for candidate in found if candidate not in needed)


def _is_replaced(storage: Storage, candidate: str, new: Manifest) -> bool:
    try:
        old = load_manifest(storage, candidate)
    except DamagedCheckpoint:
        return False
    return old.state.get("key") != new.state.get("key") and old.origin.attempt < new.origin.attempt


def retain(
    storage: Storage, folder: str, *, keep_latest: int, keep: Collection[str] = (), key: str | None = None
) -> tuple[str, ...]:
    """Remove what is no longer needed: by rank zero, after a commit, while nothing else writes to the stage.

    A damaged checkpoint takes no place among those kept, nor does one that the last attempt went back behind:
    that attempt may have found damage that only hashing shows. Neither they nor what a stopped save left behind
    are removed before a newer one that can be used exists.

    Args:
        folder: of the stage.
        keep_latest: how many to keep, at least 1: the newest that can be used is never removed.
        keep: folders to keep beside them, such as the one being read, and those that other states stand on.
        key: those made under another one are left alone: they are what the stage came to before, and stay until it has
            come to something again. None for any.

    Returns:
        The folders that were removed.
    """
    assert keep_latest >= 1, "the newest checkpoint is never removed"
    candidates = [one for one in _newest_first(storage, folder) if not is_of_other_key(storage, one[1], key)]
    origins = {one: origin for step, one in candidates if (origin := _usable_origin(storage, one, step))}
    _, last_step = max(((origin.attempt, origin.step) for origin in origins.values()), default=(0, 0))
    removed: list[str] = []
    num_kept = 0
    for step, candidate in candidates:
        if candidate in keep:
            continue
        counts = candidate in origins and step <= last_step
        if num_kept == 0 or (counts and num_kept < keep_latest):
            num_kept += counts
            _tidy(storage, candidate)
        else:
            discard(storage, candidate)
            removed.append(candidate)
    return tuple(removed)


def _tidy(storage: Storage, candidate: str) -> None:
    """Remove what a writer left that was killed right after its commit: the first name of its manifest, and the files
    of a checkpoint that was here before.
    """
    if not is_committed(storage, candidate):
        return
    for name in storage.list(candidate):
        if name.endswith(UNFINISHED) and is_of_checkpoint(name):
            storage.remove(f"{candidate}/{name}")
    with suppress(DamagedCheckpoint):
        forget_unlisted(storage, candidate, load_manifest(storage, candidate))


def _newest_first(storage: Storage, folder: str) -> list[tuple[int, str]]:
    found = ((int(match[1]), f"{folder}/{name}") for name in storage.list(folder) if (match := _STEP.match(name)))
    return sorted(found, reverse=True)


def _usable_origin(storage: Storage, candidate: str, step: int) -> Origin | None:
    try:
        return _check(storage, candidate, step=step, verify=False).origin
    except DamagedCheckpoint:
        return None


def _check(storage: Storage, candidate: str, *, step: int, verify: bool, hashed: Hashed | None = None) -> Manifest:
    manifest = load_manifest(storage, candidate)
    if manifest.origin.step != step:
        raise DamagedCheckpoint(candidate, [f"`manifest.json` is of step {manifest.origin.step}"])
    check_state(storage, candidate, manifest, verify=verify, hashed=hashed)
    return manifest
