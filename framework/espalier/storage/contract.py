"""The protocol of a storage, where a run's files are kept, and the names of unfinished files."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Protocol

from safetensors import safe_open

from espalier.config.faults import Fault, RefusedInput

Bytes = bytes | memoryview
_UNFINISHED_NAME = re.compile(r".+\.[0-9a-f]{8}\.unfinished")
UNFINISHED = ".unfinished"
COMMIT = "manifest.json"
"""The file whose existence commits a folder. A storage that removes a folder file by file removes it first."""


def unfinished(path: str) -> str:
    """A unique temporary name beside `path`, for one attempt to write it."""
    return f"{path}.{secrets.token_hex(4)}{UNFINISHED}"


def is_unfinished(name: str, *, of: str = "") -> bool:
    """Whether a name was made by `unfinished`, for the file `of` if given."""
    return _UNFINISHED_NAME.fullmatch(name) is not None and (not of or name[: -len(unfinished(""))] == of)


def without_unfinished(name: str) -> str:
    """The final name for a name made by `unfinished`; any other name unchanged."""
    return name[: -len(unfinished(""))] if is_unfinished(name) else name


class NotAsWritten(ValueError):
    """A file does not have the content that was written."""


class Storage(Protocol):
    """Files under one root. Paths are relative, with `/`; a path that leaves the root is refused.

    Every method raises `OSError` when the disk or store fails. Writing makes content durable, and only `sync_folder`
    makes names durable: a new file or a rename survives a power cut once its folder has been synced.
    """

    def write_bytes(self, path: str, *parts: Bytes) -> None:
        """Write the concatenated parts to a file in an existing folder, and sync its content."""

    def publish(self, path: str, data: bytes) -> None:
        """Create a file in an existing folder, atomically and durably.

        Raises:
            FileExistsError: it exists; its content is not changed.
        """

    def replace(self, path: str, data: bytes) -> None:
        """Write a file that may exist, atomically and durably: readers see the old or the new content."""

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents durably; does nothing when it exists."""

    def rename(self, old: str, new: str, *, replace: bool = True) -> None:
        """Rename a file or folder atomically, replacing a file of the new name.

        Args:
            replace: for files only; False: raise `FileExistsError` when the new name exists.
        """

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable."""

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with everything in it."""

    def exists(self, path: str) -> bool: ...

    def list(self, path: str) -> tuple[str, ...]:
        """Sorted names in a folder; empty when it does not exist."""

    def num_bytes(self, path: str) -> int:
        """Size of a file."""

    def xxh3(self, path: str) -> str:
        """XXH3 (128 bits, hex) of a file's content, read in bounded memory."""

    def read_bytes(self, path: str, *, max_bytes: int) -> bytes:
        """A file's content; `ValueError` when it is larger than `max_bytes`."""

    def open_tensors(self, path: str, *, xxh3: str | None = None) -> safe_open:
        """Open a safetensors file memory-mapped. Its tensors are views that share pages; copy them.

        Args:
            xxh3: expected hash of the content, if known. A storage that downloads a copy verifies it; a shared file
                was verified by one process before.

        Raises:
            SafetensorError: not a safetensors file.
            NotAsWritten: two downloads had another hash.
        """

    def free_bytes(self) -> int:
        """Free space for new files."""


def replace_folder(storage: Storage, made: str, folder: str, *, remove: Callable[[str], None] | None = None) -> None:
    """Rename a complete folder to its final name, replacing an earlier one; an interruption loses neither content.

    Args:
        remove: how to remove the earlier folder; by default `storage.remove`.
    """
    old = unfinished(folder) if storage.exists(folder) else None
    if old:
        storage.rename(folder, old)
    storage.rename(made, folder)
    storage.sync_folder(PurePosixPath(folder).parent.as_posix())
    if old:
        (remove or storage.remove)(old)


def is_plain(path: str) -> bool:
    """Whether a path is relative and has no `..`."""
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts and "\0" not in path


def leaves(path: str, root: str) -> RefusedInput:
    """The error for a path that leaves its storage."""
    return RefusedInput([Fault("path", path, f"a relative path that stays inside `{root}`")])
