"""States that hold a part of a model, and those below them that hold the rest."""

from __future__ import annotations

from contextlib import suppress

from espalier.checkpoint.manifest import Base, DamagedCheckpoint, Manifest
from espalier.checkpoint.manifest_file import Hashed, check_files, is_committed, load_hashed, load_manifest
from espalier.checkpoint.published_files import check_published_files
from espalier.storage.contract import Storage


def load_bases(storage: Storage, folder: str, manifest: Manifest) -> tuple[Manifest, ...]:
    """The manifests of a checkpoint's bases, in their order; of a whole state none. Looks at no other file.

    Raises:
        DamagedCheckpoint: one is missing or another state than the checkpoint was made on, or a parameter is in none.
        RefusedInput: a newer espalier wrote one.
    """
    loaded = tuple(_load(storage, folder, base) for base in manifest.bases)
    if missing := [name for name in manifest.names_below if not _is_held(manifest, name, loaded)]:
        raise DamagedCheckpoint(folder, [f"`{name}` is in none of the states that it stands on" for name in missing])
    return loaded


def check_state(
    storage: Storage,
    folder: str,
    manifest: Manifest,
    *,
    verify: bool,
    outside: bool | None = None,
    hashed: Hashed | None = None,
) -> None:
    """Hold a checkpoint, its bases and the published files that they refer to to their manifests: every file's size
    always, its hash when `verify`.

    Args:
        outside: whether published files are hashed, where that is another matter: each host may have its own.
        hashed: see `check_files`.

    Raises:
        DamagedCheckpoint: naming what is missing or not as it was written.
        RefusedInput: a newer espalier wrote a base.
    """
    outside = verify if outside is None else outside
    check_files(storage, folder, manifest, verify=verify, hashed=hashed)
    check_published_files(folder, manifest, verify=outside, hashed=hashed)
    for base, below in zip(manifest.bases, load_bases(storage, folder, manifest), strict=True):
        try:
            check_files(storage, base.folder, below, verify=verify, hashed=hashed)
            check_published_files(base.folder, below, verify=outside, hashed=hashed)
        except DamagedCheckpoint as damage:
            raise _stands_on(folder, damage) from None


def standing_on(storage: Storage) -> set[str]:
    """The folders of all states that some committed state of the run stands on: none of them may be removed."""
    found: set[str] = set()
    for stage in storage.list("stages"):
        for name in storage.list(f"stages/{stage}"):
            folder = f"stages/{stage}/{name}"
            if name.startswith("step-") and is_committed(storage, folder):
                with suppress(DamagedCheckpoint):
                    found.update(base.folder for base in load_manifest(storage, folder).bases)
    return found


def _load(storage: Storage, folder: str, base: Base) -> Manifest:
    try:
        manifest, xxh3 = load_hashed(storage, base.folder)
    except DamagedCheckpoint as damage:
        raise _stands_on(folder, damage) from None
    if xxh3 != base.xxh3:
        raise DamagedCheckpoint(folder, [f"it stands on `{base.folder}`, which has been made anew since"])
    return manifest


def _is_held(manifest: Manifest, name: str, bases: tuple[Manifest, ...]) -> bool:
    return any(name in base.own_parameters and base.shapes[name] == manifest.shapes[name] for base in bases)


def _stands_on(folder: str, damage: DamagedCheckpoint) -> DamagedCheckpoint:
    return DamagedCheckpoint(folder, [f"it stands on `{damage.folder}`: {reason}" for reason in damage.reasons])
