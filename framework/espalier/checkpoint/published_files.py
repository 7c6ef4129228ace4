"""Files of a published model that a committed state names by their hashes, instead of holding their values itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from espalier.checkpoint.manifest import DamagedCheckpoint, FileRecord, Manifest, Published, PublishedTensor
from espalier.checkpoint.manifest_file import Hashed, file_faults
from espalier.storage.local import LocalStorage


def published_storage(folder: Path) -> tuple[LocalStorage, str]:
    """A storage that links in a published folder cannot lead out of, and the folder's path in it.

    A snapshot in the hub's cache is a folder of links to blobs beside it, so the whole entry is the root.
    """
    path = folder.resolve()
    entry = path.parent.parent
    root = entry if path.parent.name == "snapshots" and entry.name.startswith("models--") else path
    return LocalStorage(root), path.relative_to(root).as_posix()


def refer_to(folder: Path, tensors: Mapping[str, tuple[str, str, str]]) -> Published:
    """Name the values of a published folder; its files are read once, to be hashed.

    Args:
        folder: absolute.
        tensors: by parameter: file, name of the tensor in it, dtype as torch calls it.
    """
    storage, place = published_storage(folder)
    names = sorted({file for file, _, _ in tensors.values()})
    paths = {name: f"{place}/{name}" for name in names}
    files = {name: FileRecord(num_bytes=storage.num_bytes(at), xxh3=storage.xxh3(at)) for name, at in paths.items()}
    records = {
        parameter: PublishedTensor.model_validate({"file": names.index(file), "name": name, "dtype": dtype})
        for parameter, (file, name, dtype) in tensors.items()
    }
    return Published(folder=str(folder), files=files, tensors=records)


def check_published_files(folder: str, manifest: Manifest, *, verify: bool, hashed: Hashed | None = None) -> None:
    """Hold the published files that a state refers to to their sizes, and to their hashes when `verify`.

    Args:
        folder: of the state.
        hashed: see `check_files`.

    Raises:
        DamagedCheckpoint: naming every file that is missing, cannot be read or has changed.
    """
    published = manifest.published
    if published is None:
        return
    try:
        storage, place = published_storage(Path(published.folder))
        faults = file_faults(storage, place, published.files, verify=verify, hashed=hashed)
    except (OSError, ValueError) as error:
        faults = [f"they cannot be read ({error})"]
    if faults:
        remedy = f"bring that model back to {published.folder} as it was (a link to it will do)"
        reason = f"it refers to the published files in {published.folder}: {', '.join(faults)}; {remedy}"
        raise DamagedCheckpoint(folder, [reason])
