"""Values of a committed state that lie in a published model's own files, which the state names by their hashes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

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
        parameter: PublishedTensor(file=names.index(file), name=name, dtype=dtype)
        for parameter, (file, name, dtype) in tensors.items()
    }
    return Published(folder=str(folder), files=files, tensors=records)


def check_published(folder: str, manifest: Manifest, *, verify: bool, hashed: Hashed | None = None) -> None:
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


class PublishedValues:
    """Reads them. Files are mapped when they are first needed."""

    def __init__(self, folder: str, manifest: Manifest, published: Published) -> None:
        self._folder, self._shapes, self._published = folder, manifest.shapes, published
        self._names = sorted(published.files)
        self._opened: dict[int, safe_open] = {}

    def read(self, name: str, *, offset: int, length: int) -> Tensor:
        """`length` values of the flattened parameter from `offset` on: [length], on the CPU, a copy."""
        record, shape = self._published.tensors[name], self._shapes[name]
        try:
            stored = self._open(record.file).get_slice(record.name)
            found = tuple(stored.get_shape())
            row = math.prod(shape[1:])
            first, last = offset // row, -(-(offset + length) // row)
            rows = stored[first:last] if shape else self._open(record.file).get_tensor(record.name)
        except (SafetensorError, OSError, ValueError) as error:
            raise DamagedCheckpoint(self._folder, [f"{self._published.folder}: {error}"]) from None
        if found != shape or rows.dtype != getattr(torch, record.dtype):
            raise DamagedCheckpoint(self._folder, [f"`{record.name}` in {self._published.folder} has changed"])
        start = offset - first * row
        return rows.reshape(-1)[start : start + length].clone()

    def _open(self, file: int) -> safe_open:
        if file not in self._opened:
            storage, place = published_storage(Path(self._published.folder))
            self._opened[file] = storage.open_tensors(f"{place}/{self._names[file]}")
        return self._opened[file]
