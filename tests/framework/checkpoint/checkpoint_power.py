"""A storage that knows what a power cut would leave of it.

Content is durable when `write_bytes` has returned, a name when its folder was synced after it was made. Of the
changes to names that were not synced any subset survives, each name by itself: an order that no file system
is bound to beyond that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal

from checkpoint_cases import Stopped

from espalier.storage.contract import Bytes
from espalier.storage.local import LocalStorage

How = Literal["before", "during", "after"]


@dataclass
class _File:
    content: bytes
    durable: bool


@dataclass
class _Folder:
    """A folder as processes see it (`names`), as the disk has it, and the changes between the two, in order."""

    names: dict[str, _File | _Folder] = field(default_factory=dict)
    durable: dict[str, _File | _Folder] = field(default_factory=dict)
    changes: list[dict[str, _File | _Folder | None]] = field(default_factory=list)

    def change(self, change: dict[str, _File | _Folder | None]) -> None:
        _apply(self.names, change)
        self.changes.append(change)

    def sync(self) -> None:
        self.durable = dict(self.names)
        self.changes.clear()


class PowerCutStorage(LocalStorage):
    """Works as usual until the power goes: before, during or after one of the calls that change something."""

    def __init__(self, root: Path, *, cut_at: int = -1, how: How = "before") -> None:
        super().__init__(root)
        self.cut_at = cut_at
        self.how = how
        self.num_calls = 0
        self._top = _Folder()

    def write_bytes(self, path: str, *parts: Bytes) -> None:
        data = b"".join(parts)
        during = self._call()
        super().write_bytes(path, data)
        folder, name = self._parent(path)
        file = folder.names.get(name)
        if isinstance(file, _File):
            file.content, file.durable = data, not during
        else:
            folder.change({name: _File(data, durable=not during)})
        self._end(during)

    def make_folder(self, path: str) -> None:
        during = self._call()
        super().make_folder(path)
        folder = self._top
        for name in path.split("/"):
            if name not in folder.names:
                folder.change({name: _Folder()})
                if not during:
                    folder.sync()
            folder = folder.names[name]
        self._end(during)

    def rename(self, old: str, new: str, *, replace: bool = True) -> None:
        during = self._call()
        super().rename(old, new, replace=replace)
        (folder, before), (same, after) = self._parent(old), self._parent(new)
        assert folder is same, "this room renames inside a folder only"
        second, first = {after: folder.names[before]}, {before: None}
        for change in [second | first] if replace else [second, first]:  # a link comes before the old name goes
            folder.change(change)
        self._end(during)

    def sync_folder(self, path: str) -> None:
        during = self._call()
        super().sync_folder(path)
        if not during:
            self._folder(path).sync()
        self._end(during)

    def remove(self, path: str) -> None:
        during = self._call()
        super().remove(path)
        folder, name = self._parent(path)
        _empty(folder.names[name])
        folder.change({name: None})
        self._end(during)

    def leave(self, root: Path, random: Random) -> LocalStorage:
        """Write what survived to `root`."""
        _leave(self._top, root, random)
        return LocalStorage(root)

    def _call(self) -> bool:
        """Whether the power goes during this call."""
        cut = self.num_calls == self.cut_at
        self.num_calls += 1
        if cut and self.how == "before":
            raise Stopped
        return cut and self.how == "during"

    def _end(self, during: bool) -> None:
        if during or (self.num_calls - 1 == self.cut_at and self.how == "after"):
            raise Stopped

    def _parent(self, path: str) -> tuple[_Folder, str]:
        folder, _, name = path.rpartition("/")
        return self._folder(folder), name

    def _folder(self, path: str) -> _Folder:
        folder = self._top
        for name in path.split("/"):
            folder = folder.names[name]
        return folder


def _apply(names: dict[str, _File | _Folder], change: dict[str, _File | _Folder | None]) -> None:
    for name, one in change.items():
        if one is None:
            names.pop(name, None)
        else:
            names[name] = one


def _empty(removed: _File | _Folder) -> None:
    if isinstance(removed, _Folder):
        for name, one in list(removed.names.items()):
            _empty(one)
            removed.change({name: None})


def _leave(folder: _Folder, path: Path, random: Random) -> None:
    path.mkdir()
    names = dict(folder.durable)
    for change in folder.changes:
        if random.random() < 0.5:
            _apply(names, change)
    for name, one in names.items():
        if isinstance(one, _Folder):
            _leave(one, path / name, random)
        else:
            (path / name).write_bytes(one.content if one.durable else _torn(one.content, random))


def _torn(content: bytes, random: Random) -> bytes:
    kept = content[: random.randint(0, len(content))]
    return random.choice([content, kept, kept.ljust(len(content), b"\0")])
