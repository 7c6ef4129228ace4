"""Reading a file that others may have put there: never a pipe or a device, and never more than is asked for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it. A pipe, a socket or a device is refused, as it might keep the reader for ever.

    Raises:
        OSError: there is none, or it is no regular file.
    """
    _require_regular(os.stat(path).st_mode, path)  # first: opening alone makes some devices act
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _require_regular(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def read_whole(file: BinaryIO, *, max_bytes: int) -> bytes | None:
    """The content of a file as large as it is now; None when it has more than `max_bytes`.

    A read of `max_bytes` would set that much memory aside, however small the file is.
    """
    size = os.fstat(file.fileno()).st_size
    content = file.read(min(size, max_bytes) + 1)
    return None if max(size, len(content)) > max_bytes else content
