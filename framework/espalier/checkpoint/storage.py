"""The only code of this room that touches files.

A save is a list of calls to one object; a test that replaces it can stop, tear or reorder any of them.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from pathlib import Path, PurePosixPath
from typing import Protocol

import xxhash
from safetensors import safe_open

from espalier.config.faults import Fault, RefusedInput

Bytes = bytes | memoryview
UNFINISHED = ".unfinished"
_CHUNK_BYTES = 8 * 2**20
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)


class NotAsWritten(ValueError):
    """A file has other content than it was given."""


class Storage(Protocol):
    """Files under one root. Paths are relative, with `/`; a path that leaves the root is refused.

    Every method raises `OSError` for what the disk refuses. Writing makes content durable, and only
    `sync_folder` makes names durable: a file or a rename survives a power cut when its folder was synced
    after it.
    """

    def write_bytes(self, path: str, *parts: Bytes) -> None:
        """Write a file, one part after another, in an existing folder and sync its content."""

    def publish(self, path: str, data: bytes) -> None:
        """Write a new file in an existing folder so that it is there whole or not at all, durably.

        Raises:
            FileExistsError: it is there already, and stays as it is.
        """

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents, durably; nothing to do when it is there."""

    def rename(self, old: str, new: str, *, replace: bool = True) -> None:
        """Give a file or folder another name, replacing a file of that name, in one step.

        Args:
            replace: of files only: without it a file that is there stays, and `FileExistsError` is raised.
        """

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable."""

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with all in it."""

    def exists(self, path: str) -> bool: ...

    def list(self, path: str) -> tuple[str, ...]:
        """Sorted names in a folder; empty when there is no such folder."""

    def num_bytes(self, path: str) -> int:
        """Size of a file."""

    def xxh3(self, path: str) -> str:
        """XXH3 (128 bits, hex) of a file's content, read in bounded memory."""

    def read_bytes(self, path: str, *, max_bytes: int) -> bytes:
        """A file's content; `ValueError` when it is larger than `max_bytes`."""

    def open_tensors(self, path: str, *, xxh3: str | None = None) -> safe_open:
        """A safetensors file, memory-mapped: what it gives are views that share pages, to be copied.

        Args:
            xxh3: of its content, where it is known. A storage that fetches a copy for this process holds that to it;
                a file that all processes share was held to it by one of them.

        Raises:
            SafetensorError: it is none.
            NotAsWritten: what was fetched is something else, twice.
        """

    def free_bytes(self) -> int:
        """Room left for new files."""


class LocalStorage:
    """A folder of a file system that every worker sees."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def write_bytes(self, path: str, *parts: Bytes) -> None:
        with self._inside(path).open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    def publish(self, path: str, data: bytes) -> None:
        unfinished = f"{path}.{secrets.token_hex(4)}{UNFINISHED}"
        self.write_bytes(unfinished, data)
        try:
            self.rename(unfinished, path, replace=False)
        except FileExistsError:
            self.remove(unfinished)
            raise
        self.sync_folder(PurePosixPath(path).parent.as_posix())

    def make_folder(self, path: str) -> None:
        folder = self._inside(path)
        for one in reversed((folder, *folder.parents)):
            missing = not one.exists()
            if missing:
                one.mkdir(exist_ok=True)
            # One that is there may have been made by a process that was killed before it synced.
            if missing or self.root in one.parents:
                _sync(one.parent)

    def rename(self, old: str, new: str, *, replace: bool = True) -> None:
        source, target = self._inside(old), self._inside(new)
        if replace or not _link(source, target):
            source.replace(target)

    def sync_folder(self, path: str) -> None:
        _sync(self._inside(path))

    def remove(self, path: str) -> None:
        target = self._inside(path)
        assert target != self.root, "the root itself is never removed"
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink()

    def exists(self, path: str) -> bool:
        return self._inside(path).exists()

    def list(self, path: str) -> tuple[str, ...]:
        folder = self._inside(path)
        return tuple(sorted(os.listdir(folder))) if folder.is_dir() else ()

    def num_bytes(self, path: str) -> int:
        return self._inside(path).stat().st_size

    def xxh3(self, path: str) -> str:
        return xxh3_of(self._inside(path))

    def read_bytes(self, path: str, *, max_bytes: int) -> bytes:
        with self._inside(path).open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise ValueError(f"`{path}` is larger than {max_bytes} bytes")
        return data

    def open_tensors(self, path: str, *, xxh3: str | None = None) -> safe_open:
        return safe_open(self._inside(path), framework="pt", device="cpu")

    def free_bytes(self) -> int:
        there = next(one for one in (self.root, *self.root.parents) if one.exists())
        return shutil.disk_usage(there).free

    def _inside(self, path: str) -> Path:
        """The file that `path` names; links are followed only to see that they stay inside."""
        target = self.root / path
        if not is_plain(path) or not target.resolve().is_relative_to(self.root):
            raise leaves(path, str(self.root))
        return target


def is_plain(path: str) -> bool:
    """Whether a path is relative and never steps up."""
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts and "\0" not in path


def leaves(path: str, root: str) -> RefusedInput:
    """The refusal of a path that leaves its storage."""
    return RefusedInput([Fault("path", path, f"a relative path that stays inside `{root}`")])


def xxh3_of(file: Path) -> str:
    """XXH3 (128 bits, hex) of a local file's content, read in bounded memory."""
    digest = xxhash.xxh3_128()
    with file.open("rb", buffering=0) as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _link(source: Path, target: Path) -> bool:
    """Let a file have the name `target` alone, where nobody has it; False where the file system knows no links.

    Raises:
        FileExistsError: somebody has it.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():  # looking first is the best that is left
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        return False
    source.unlink()
    return True


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
