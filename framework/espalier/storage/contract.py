"""What is asked of the place where files are kept."""

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
"""The file whose being there makes a folder a commit: a storage that removes a folder piece by piece begins with it."""


def unfinished(path: str) -> str:
    """A name beside `path`, of this one attempt to write it."""
    return f"{path}.{secrets.token_hex(4)}{UNFINISHED}"


def is_unfinished(name: str, *, of: str = "") -> bool:
    """Whether `unfinished` made this name, of a file called `of` where that is given."""
    return _UNFINISHED_NAME.fullmatch(name) is not None and (not of or name[: -len(unfinished(""))] == of)


def without_unfinished(name: str) -> str:
    """The name that a file is to have, of one that `unfinished` gave it until it is written; others as they are."""
    return name[: -len(unfinished(""))] if is_unfinished(name) else name


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

    def replace(self, path: str, data: bytes) -> None:
        """Write a file that may be there already: the old content or the new, never a part, and durably."""

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


def replace_folder(storage: Storage, made: str, folder: str, *, remove: Callable[[str], None] | None = None) -> None:
    """Give a folder that is complete its name, in place of an earlier one: whoever stops this loses neither content.

    Args:
        remove: how the earlier one is removed, where it is not simply all that lies there.
    """
    old = unfinished(folder) if storage.exists(folder) else None
    if old:
        storage.rename(folder, old)
    storage.rename(made, folder)
    storage.sync_folder(PurePosixPath(folder).parent.as_posix())
    if old:
        (remove or storage.remove)(old)


def is_plain(path: str) -> bool:
    """Whether a path is relative and never steps up."""
    return not path.startswith("/") and ".." not in PurePosixPath(path).parts and "\0" not in path


def leaves(path: str, root: str) -> RefusedInput:
    """The refusal of a path that leaves its storage."""
    return RefusedInput([Fault("path", path, f"a relative path that stays inside `{root}`")])
