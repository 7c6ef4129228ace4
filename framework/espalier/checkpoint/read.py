"""Reading any run of any tensor, whatever fragments it was written in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from espalier.checkpoint.fragments import Slot, tensor_key
from espalier.checkpoint.manifest import DamagedCheckpoint, Manifest, TensorRecord
from espalier.checkpoint.manifest_file import check_files, load_manifest
from espalier.storage.contract import NotAsWritten, Storage


class StateReader:
    """A committed checkpoint, opened.

    Files are mapped when they are first needed, and every answer is a copy: memory is what the caller asks
    for.
    """

    def __init__(self, storage: Storage, folder: str, *, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._storage = storage
        self._files = sorted(manifest.files)
        self._opened: dict[int, safe_open] = {}

    @classmethod
    def open(cls, storage: Storage, folder: str, *, verify: bool = True) -> StateReader:
        """Open a checkpoint after holding all its files to the manifest.

        Args:
            verify: hash every file. One rank is enough: the others pass False and check sizes only.

        Raises:
            DamagedCheckpoint: not committed, or not as it was written.
            RefusedInput: a newer espalier wrote it.
        """
        manifest = load_manifest(storage, folder)
        check_files(storage, folder, manifest, verify=verify)
        return cls(storage, folder, manifest=manifest)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of every parameter of the model, by name; not of what a stage trained along."""
        return self.manifest.shapes

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What is stored: `parameter`, and the moments unless the optimizer was fresh."""
        return tuple(self.manifest.tensors)

    def names(self, slot: Slot) -> tuple[str, ...]:
        """Parameters that have this slot; none when the slot is absent."""
        return tuple(self.manifest.tensors.get(slot, {}))

    def tables(self) -> dict[str, Tensor]:
        """What the stage remembered of its samples, whole."""
        return {name: self.tensor("table", name) for name in self.manifest.tables}

    def dtype(self, slot: Slot, name: str) -> torch.dtype:
        return getattr(torch, self._record(slot, name).dtype)

    def tensor(self, slot: Slot, name: str) -> Tensor:
        """A whole tensor in its parameter's shape, in memory of its own."""
        shape = self.manifest.shape(slot, name)
        assert shape is not None, f"{self.folder} has no {slot} {name}"
        return self.read(slot, name, offset=0, length=torch.Size(shape).numel()).view(shape)

    def read(self, slot: Slot, name: str, *, offset: int, length: int) -> Tensor:
        """`length` values of the flattened tensor from `offset` on: [length], on the CPU, a copy."""
        record = self._record(slot, name)
        whole = torch.Size(self.manifest.shape(slot, name) or ()).numel()
        assert 0 <= offset <= offset + length <= whole, f"{name}: no such run"
        values = torch.empty(length, dtype=self.dtype(slot, name))
        first = bisect_right(record.runs, offset, key=lambda run: run[0]) - 1
        for start, count, file in record.runs[first:]:
            begin, end = max(offset, start), min(offset + length, start + count)
            if begin >= end:
                break
            piece = self._piece(file, tensor_key(slot, name, start), begin=begin - start, end=end - start)
            if piece.dtype != values.dtype or piece.shape != (end - begin,):
                raise DamagedCheckpoint(self.folder, [f"{slot} `{name}` is not what the manifest says"])
            values[begin - offset : end - offset] = piece
        return values

    def _record(self, slot: Slot, name: str) -> TensorRecord:
        assert name in self.names(slot), f"{self.folder} has no {slot} of {name}"
        return self.manifest.tensors[slot][name]

    def _piece(self, file: int, key: str, *, begin: int, end: int) -> Tensor:
        try:
            if file not in self._opened:
                name = self._files[file]
                xxh3 = self.manifest.files[name].xxh3
                self._opened[file] = self._storage.open_tensors(f"{self.folder}/{name}", xxh3=xxh3)
            return self._opened[file].get_slice(key)[begin:end]
        except (SafetensorError, NotAsWritten) as error:
            raise DamagedCheckpoint(self.folder, [f"`{self._files[file]}`: {error}"]) from None
