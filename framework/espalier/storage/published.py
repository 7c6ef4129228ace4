"""Files of a folder that somebody else made: read whole, within bounds, and never from outside of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from espalier.storage.regular_file import read_whole


def read_published(folder: Path, name: str, *, max_bytes: int) -> bytes:
    """The content of a plain file, found as by `open_published`.

    Raises:
        FileNotFoundError: there is nothing of this name.
        ValueError: as `open_published`, or too large a file.
    """
    with open_published(folder, name) as file:
        content = read_whole(file, max_bytes=max_bytes)
    if content is None:
        raise ValueError(f"larger than {max_bytes:,} bytes")
    return content


def open_published(folder: Path, name: str) -> BinaryIO:
    """Open a plain file for reading.

    A link is followed as far as it stays in the folder. An entry of the hub's cache is a folder of links to the
    `blobs` beside it, so those count as inside.

    Raises:
        FileNotFoundError: there is nothing of this name.
        ValueError: a link that leads out of the folder or nowhere, a FIFO, a device, a folder; the message
            continues a sentence about the file.
    """
    if not os.path.lexists(folder / name):
        raise FileNotFoundError(folder / name)
    target = Path(os.path.realpath(folder / name))
    if not any(target.is_relative_to(root) for root in _roots(folder.resolve())):
        raise ValueError("a link to a file outside of it")
    try:
        if not stat.S_ISREG(os.lstat(target).st_mode):  # before opening: to open a FIFO or a device has effects
            raise ValueError("no plain file")
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ValueError("a link to a file that is missing") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("no plain file")
    return os.fdopen(descriptor, "rb")


def _roots(folder: Path) -> tuple[Path, ...]:
    entry = folder.parent.parent
    in_cache = folder.parent.name == "snapshots" and entry.name.startswith("models--")
    return (folder, entry / "blobs") if in_cache else (folder,)
