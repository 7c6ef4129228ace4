"""Reading any run of any tensor, whatever fragments it was written in, and whichever state holds it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from espalier.checkpoint.bases import check_state, load_bases
from espalier.checkpoint.fragments import Slot, tensor_key
from espalier.checkpoint.manifest import Base, DamagedCheckpoint, Manifest, TensorRecord
from espalier.checkpoint.manifest_file import load_hashed
from espalier.storage.contract import NotAsWritten, Storage


class StateReader:
    """A committed checkpoint, opened: whole, whether it holds all of its model itself or stands on others.

    Files are mapped when they are first needed, and every answer is a copy: memory is what the caller asks
    for.
    """

    def __init__(self, storage: Storage, folder: str, *, manifest: Manifest, xxh3: str = "") -> None:
        self.folder = folder
        self.manifest = manifest
        self._own = _Held(storage, folder, manifest)
        below = zip(manifest.bases, load_bases(storage, folder, manifest), strict=True)
        self._bases = {base: _Held(storage, base.folder, loaded) for base, loaded in below}
        self._xxh3 = xxh3

    @classmethod
    def open(cls, storage: Storage, folder: str, *, verify: bool = True) -> StateReader:
        """Open a checkpoint after holding all its files, and those of what it stands on, to the manifests.

        Args:
            verify: hash every file. One rank is enough: the others pass False and check sizes only.

        Raises:
            DamagedCheckpoint: not committed, or not as it was written.
            RefusedInput: a newer espalier wrote it.
        """
        manifest, xxh3 = load_hashed(storage, folder)
        check_state(storage, folder, manifest, verify=verify)
        return cls(storage, folder, manifest=manifest, xxh3=xxh3)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of every parameter of the model, by name; not of what a stage trained along."""
        return self.manifest.shapes

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What is stored: `parameter`, and the moments unless the optimizer was fresh."""
        return tuple(self.manifest.tensors)

    def names(self, slot: Slot) -> tuple[str, ...]:
        """Parameters that have this slot; none when the slot is absent. Moments are those that came with this state."""
        return tuple(self.shapes if slot == "parameter" else self.manifest.tensors.get(slot, {}))

    def has_moments(self, names: Collection[str]) -> bool:
        """Whether the optimizer's moments of all these parameters came with this state."""
        return set(names).issubset(self.names("exp_avg"))

    def bases_without(self, trained: Collection[str]) -> tuple[Base, ...]:
        """What a state stands on that holds the parameters `trained` alone: this one and its own bases, as needed."""
        rest, bases = self.shapes.keys() - set(trained), []
        for base, held in ((Base(folder=self.folder, xxh3=self._xxh3), self._own), *self._bases.items()):
            if found := rest & held.records("parameter").keys():
                bases.append(base)
                rest -= found
        return tuple(bases)

    def tables(self) -> dict[str, Tensor]:
        """What the stage remembered of its samples, whole."""
        return {name: self.tensor("table", name) for name in self.manifest.tables}

    def dtype(self, slot: Slot, name: str) -> torch.dtype:
        return getattr(torch, self._holder(slot, name).records(slot)[name].dtype)

    def tensor(self, slot: Slot, name: str) -> Tensor:
        """A whole tensor in its parameter's shape, in memory of its own."""
        shape = self.manifest.shape(slot, name)
        assert shape is not None, f"{self.folder} has no {slot} {name}"
        return self.read(slot, name, offset=0, length=torch.Size(shape).numel()).view(shape)

    def read(self, slot: Slot, name: str, *, offset: int, length: int) -> Tensor:
        """`length` values of the flattened tensor from `offset` on: [length], on the CPU, a copy."""
        whole = torch.Size(self.manifest.shape(slot, name) or ()).numel()
        assert 0 <= offset <= offset + length <= whole, f"{name}: no such run"
        return self._holder(slot, name).read(slot, name, offset=offset, length=length)

    def _holder(self, slot: Slot, name: str) -> _Held:
        states = (self._own, *self._bases.values()) if slot == "parameter" else (self._own,)
        found = next((held for held in states if name in held.records(slot)), None)
        assert found is not None, f"{self.folder} has no {slot} of {name}"
        return found


class _Held:
    """What one committed folder holds itself."""

    def __init__(self, storage: Storage, folder: str, manifest: Manifest) -> None:
        self._storage, self._folder, self._manifest = storage, folder, manifest
        self._files = sorted(manifest.files)
        self._opened: dict[int, safe_open] = {}

    def records(self, slot: Slot) -> dict[str, TensorRecord]:
        return self._manifest.tensors.get(slot, {})

    def read(self, slot: Slot, name: str, *, offset: int, length: int) -> Tensor:
        record = self.records(slot)[name]
        values = torch.empty(length, dtype=getattr(torch, record.dtype))
        first = bisect_right(record.runs, offset, key=lambda run: run[0]) - 1
        for start, count, file in record.runs[first:]:
            begin, end = max(offset, start), min(offset + length, start + count)
            if begin >= end:
                break
            piece = self._piece(file, tensor_key(slot, name, start), begin=begin - start, end=end - start)
            if piece.dtype != values.dtype or piece.shape != (end - begin,):
                raise DamagedCheckpoint(self._folder, [f"{slot} `{name}` is not what the manifest says"])
            values[begin - offset : end - offset] = piece
        return values

    def _piece(self, file: int, key: str, *, begin: int, end: int) -> Tensor:
        try:
            if file not in self._opened:
                name = self._files[file]
                xxh3 = self._manifest.files[name].xxh3
                self._opened[file] = self._storage.open_tensors(f"{self._folder}/{name}", xxh3=xxh3)
            return self._opened[file].get_slice(key)[begin:end]
        except (SafetensorError, NotAsWritten) as error:
            raise DamagedCheckpoint(self._folder, [f"`{self._files[file]}`: {error}"]) from None
