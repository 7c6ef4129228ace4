"""Reading values of a committed state that lie in a published model's own files."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from espalier.checkpoint.manifest import DamagedCheckpoint, Manifest, Published
from espalier.checkpoint.published_files import published_storage


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
