"""A small state, ways to cut and save it, and a storage that stops when told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.manifest import Manifest, Origin
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.storage.contract import Bytes, Storage
from espalier.storage.local import LocalStorage

SHAPES = {"body.weight": (5, 7), "body.bias": (11,), "scale": ()}
SLOTS = ("parameter", "exp_avg", "exp_avg_sq")
Tensors = Mapping[tuple[str, str], Tensor]


def make_tensors(seed: int, *, slots: Sequence[str] = SLOTS) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    return {(slot, name): torch.randn(shape, generator=generator) for slot in slots for name, shape in SHAPES.items()}


def cut(tensors: Tensors, *, num_ranks: int) -> list[list[Fragment]]:
    """Every tensor in `num_ranks` runs, one for each rank; later ranks may get none."""
    ranks: list[list[Fragment]] = [[] for _ in range(num_ranks)]
    for (slot, name), tensor in tensors.items():
        piece = -(-tensor.numel() // num_ranks)
        for rank, values in enumerate(tensor.flatten().split(piece)):
            ranks[rank].append(Fragment(slot, name, rank * piece, values))
    return ranks


def make_origin(*, step: int, attempt: int, num_ranks: int) -> Origin:
    return Origin(
        stage="heal",
        step=step,
        attempt=attempt,
        world_size=num_ranks,
        zero_level="gradients",
        model={"hidden_size": 7},
        tokenizer="t0",
    )


def save_ranks(
    storage: Any,
    folder: str,
    *,
    ranks: Sequence[Sequence[Fragment]],
    step: int = 500,
    attempt: int = 1,
    max_file_bytes: int = 2**20,
    key: str | None = None,
) -> Manifest:
    begin(storage, folder, attempt=attempt)
    written = [
        write_fragments(
            storage, folder, fragments=iter(held), rank=rank, attempt=attempt, max_file_bytes=max_file_bytes
        )
        for rank, held in enumerate(ranks)
    ]
    origin = make_origin(step=step, attempt=attempt, num_ranks=len(ranks))
    state = {"position": 3 * step, "streams": {"order": [1, 2]}} | ({"key": key} if key else {})
    return commit(storage, folder, origin=origin, shapes=SHAPES, state=state, ranks=written[::-1])


class Stopped(BaseException):
    """The process is gone."""


class StoppingStorage(LocalStorage):
    """Stops at one of the calls that change something: before it, after it, or half-way through.

    Half of a write is half of the content, half of a folder's removal every second name in it.
    """

    def __init__(self, root: Path, *, stop_at: int = -1, how: Literal["before", "torn", "after"] = "before") -> None:
        super().__init__(root)
        self.num_calls = 0
        self._stop_at = stop_at
        self._how = how

    def write_bytes(self, path: str, *parts: Bytes) -> None:
        data = b"".join(parts)
        half = data[: len(data) // 2]
        self._call(lambda: super(StoppingStorage, self).write_bytes(path, data), path=path, half=half)

    def make_folder(self, path: str) -> None:
        self._call(lambda: super(StoppingStorage, self).make_folder(path))

    def rename(self, old: str, new: str, *, replace: bool = True) -> None:
        self._call(lambda: super(StoppingStorage, self).rename(old, new, replace=replace))

    def sync_folder(self, path: str) -> None:
        self._call(lambda: super(StoppingStorage, self).sync_folder(path))

    def remove(self, path: str) -> None:
        some = [f"{path}/{name}" for name in self.list(path)[::2]]
        self._call(lambda: super(StoppingStorage, self).remove(path), removed=some)

    def _call(
        self, effect: Callable[[], None], *, path: str = "", half: bytes = b"", removed: Sequence[str] = ()
    ) -> None:
        stops = self.num_calls == self._stop_at
        self.num_calls += 1
        if stops and self._how == "torn":
            if path:
                super().write_bytes(path, half)
            for one in removed:
                super().remove(one)
        if stops and self._how != "after":
            raise Stopped
        effect()
        if stops:
            raise Stopped


def calls_of(storage: Storage, path: str) -> list[Callable[[], object]]:
    """Everything that can be asked of a storage about one path."""
    return [
        lambda: storage.read_bytes(path, max_bytes=9),
        lambda: storage.write_bytes(path, b"x"),
        lambda: storage.publish(path, b"x"),
        lambda: storage.make_folder(path),
        lambda: storage.sync_folder(path),
        lambda: storage.remove(path),
        lambda: storage.rename(path, "b"),
        lambda: storage.rename("b", path),
        lambda: storage.list(path),
        lambda: storage.exists(path),
        lambda: storage.num_bytes(path),
        lambda: storage.xxh3(path),
        lambda: storage.open_tensors(path),
    ]
