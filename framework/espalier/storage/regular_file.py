"""Open and read files that others may have put in place: no pipe or device, and no more bytes than asked for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading. A pipe, a socket or a device is refused, because reading it may block for ever.

    Raises:
        OSError: the file does not exist or is no regular file.
    """
    _require_regular(os.stat(path).st_mode, path)  # before opening, because opening some devices has effects
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
    """Read a whole file; None when it is larger than `max_bytes`.

    The size is asked first, because `read(max_bytes)` allocates that much memory however small the file is.
    """
    size = os.fstat(file.fileno()).st_size
    content = file.read(min(size, max_bytes) + 1)
    return None if max(size, len(content)) > max_bytes else content
