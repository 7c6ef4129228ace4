"""Read files of a published model's folder safely: bounded in size, plain files only, never outside of the folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from espalier.storage.regular_file import read_whole


def read_published(folder: Path, name: str, *, max_bytes: int) -> bytes:
    """Read a whole file; see `open_published`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: as `open_published`, or the file is larger than `max_bytes`.
    """
    with open_published(folder, name) as file:
        content = read_whole(file, max_bytes=max_bytes)
    if content is None:
        raise ValueError(f"larger than {max_bytes:,} bytes")
    return content


def open_published(folder: Path, name: str) -> BinaryIO:
    """Open a plain file for reading.

    A link is followed if it stays in the folder. In the Hugging Face cache a model's folder holds links to the `blobs`
    folder beside it, which counts as inside.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a link out of the folder or to a missing file, a FIFO, a device, a folder. The message continues a
            sentence about the file.
    """
    if not os.path.lexists(folder / name):
        raise FileNotFoundError(folder / name)
    target = Path(os.path.realpath(folder / name))
    if not any(target.is_relative_to(root) for root in _roots(folder.resolve())):
        raise ValueError("a link to a file outside of it")
    try:
        if not stat.S_ISREG(os.lstat(target).st_mode):  # before opening, because opening a FIFO or a device has effects
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
