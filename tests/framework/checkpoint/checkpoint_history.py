"""What was committed, in memory, to hold what is on disk to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from checkpoint_cases import cut
from torch import Tensor

from espalier.checkpoint.manifest import Origin
from espalier.checkpoint.manifest_file import is_committed
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.steps import Latest, latest, retain, stage_folder, step_folder
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.storage.contract import Storage
from espalier.storage.local import LocalStorage

STAGE = stage_folder("heal")
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Version:
    """A checkpoint that was, or is going to be, saved; `keep_latest` None: without removing older ones."""

    step: int
    attempt: int
    num_ranks: int
    tensors: Mapping[tuple[str, str], Tensor]
    max_file_bytes: int
    keep_latest: int | None

    @property
    def folder(self) -> str:
        return step_folder("heal", self.step)

    def save(self, storage: Storage) -> Iterator[None]:
        """All that the ranks of an attempt do; it can be left asleep between any two parts."""
        begin(storage, self.folder, attempt=self.attempt)
        yield
        written = []
        for rank, held in enumerate(cut(self.tensors, num_ranks=self.num_ranks)):
            place = {"rank": rank, "attempt": self.attempt, "max_file_bytes": self.max_file_bytes}
            written.append(write_fragments(storage, self.folder, fragments=held, **place))
            yield
        origin = Origin(
            stage="heal",
            step=self.step,
            attempt=self.attempt,
            world_size=self.num_ranks,
            zero_level="optimizer",
            model={},
        )
        shapes = {name: tuple(tensor.shape) for (slot, name), tensor in self.tensors.items() if slot == "parameter"}
        commit(storage, self.folder, origin=origin, shapes=shapes, state={"position": self.step}, ranks=written)
        yield
        if self.keep_latest is not None:
            retain(storage, STAGE, keep_latest=self.keep_latest)

    def check_is_read(self, storage: Storage, *, num_ranks: int) -> None:
        """Read it as `num_ranks` ranks would, and compare every bit."""
        reader = StateReader.open(storage, self.folder, verify=False)
        assert (reader.manifest.origin.attempt, reader.manifest.origin.step) == (self.attempt, self.step)
        assert reader.manifest.state == {"position": self.step}
        assert {(slot, name) for slot in reader.slots for name in reader.names(slot)} == set(self.tensors)
        for (slot, name), tensor in self.tensors.items():
            assert reader.shapes[name] == tuple(tensor.shape)
            piece, end = -(-tensor.numel() // num_ranks), tensor.numel()
            parts = [
                reader.read(slot, name, offset=start, length=min(piece, end - start)) for start in range(0, end, piece)
            ]
            assert torch.equal(torch.cat(parts).view(torch.uint8), tensor.flatten().view(torch.uint8))


@dataclass
class Held:
    """A version that is committed, and every byte of its files as it was then."""

    version: Version
    files: dict[str, bytes]


@dataclass
class History:
    """Every folder of the stage that holds a checkpoint, damaged or not."""

    storage: LocalStorage
    held: dict[str, Held] = field(default_factory=dict)

    def path(self, folder: str, name: str = "") -> Path:
        return self.storage.root / folder / name

    def on_disk(self, folder: str) -> bytes | None:
        """The manifest, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            return self.path(folder, MANIFEST).read_bytes()
        return None

    def good(self) -> list[str]:
        """Folders whose every byte is as it was committed, the newest first."""
        return [folder for folder in sorted(self.held, reverse=True) if self._is_whole(folder)]

    def expected(self) -> tuple[str | None, list[str]]:
        """The newest that can be used, and the damaged ones before it."""
        newest = next(iter(self.good()), None)
        newer = [one for one in sorted(self.held, reverse=True) if newest is None or one > newest]
        return newest, [one for one in newer if self.on_disk(one) is not None]

    def check_latest(self) -> Latest:
        found = latest(self.storage, STAGE)
        assert (found.folder, [one.folder for one in found.damaged]) == self.expected()
        return found

    def note_commit(self, version: Version) -> None:
        """It has just been committed: what is on disk is right, if it reads as what was to be saved."""
        folder = self.path(version.folder)
        names = [MANIFEST, *(one.name for one in folder.glob(f"attempt-{version.attempt:04d}-*"))]
        self.held[version.folder] = Held(version, {name: (folder / name).read_bytes() for name in names})
        version.check_is_read(self.storage, num_ranks=version.num_ranks)

    def note_removals(self) -> None:
        """Forget what has no manifest and is not to get it back."""
        for folder in list(self.held):
            if not is_committed(self.storage, folder):
                del self.held[folder]

    def _is_whole(self, folder: str) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return all(self.path(folder, name).read_bytes() == data for name, data in self.held[folder].files.items())
        return False
