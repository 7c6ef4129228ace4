"""Temporary folders for a run's sockets and rendezvous files, on the local disk and accessible to their owner alone.

Every process that uses a folder holds a shared lock on it, which the kernel releases when the process ends in any way.
A sweep removes folders that nobody holds, so the next run removes what a killed run has left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/tmp")
"""Not TMPDIR, because Ray's sockets are below it and the path of a socket is limited to 107 bytes."""

_PREFIX = "espalier-"
_LOCK = "held"
_LOOK_SECONDS = 0.05

_held: dict[Path, int] = {}
"""Folder -> the descriptor through which this process holds its lock."""


def make_folder() -> Path:
    """Create an empty folder of mode 0700 that this process holds."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=ROOT))
    # The lock file gets its name only when it is locked: a sweep ignores folders without a file of that name.
    descriptor, path = tempfile.mkstemp(dir=folder)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.rename(path, folder / _LOCK)
    _held[folder] = descriptor
    return folder


def hold(folder: Path) -> None:
    """Hold a folder that another process of this user has created, until `let_go` or the end of this process."""
    if folder not in _held:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _held[folder] = descriptor


def let_go(folder: Path) -> None:
    """Release this process's hold on the folder."""
    if (descriptor := _held.pop(folder, None)) is not None:
        os.close(descriptor)


def remove(folder: Path, *, patience_seconds: float) -> None:
    """Release the folder and remove it once nobody holds it; after `patience_seconds` leave it to the next sweep."""
    let_go(folder)
    deadline = time.monotonic() + patience_seconds
    while not _remove_free(folder) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)


def sweep() -> None:
    """Remove this user's folders that no process holds."""
    for folder in _own_folders():
        if folder not in _held:
            _remove_free(folder)


def _own_folders() -> Iterator[Path]:
    for folder in ROOT.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if is_own and stat.S_ISREG((folder / _LOCK).lstat().st_mode):
                yield folder


def _remove_free(folder: Path) -> bool:
    """Remove the folder if nobody holds it; returns whether it is gone."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # another process's sweep removed it
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _empty(folder)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # another process removed it after the file was opened
        return True
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> bool:
    """Remove the folder and everything in it; returns whether that was possible.

    The lock file goes last. It is created again if a dying process has written to the folder in the meantime (Ray's
    agents live a minute longer than a killed cluster), because a sweep ignores folders without it.
    """
    for one in folder.iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one, ignore_errors=True)
        elif one.name != _LOCK:
            one.unlink(missing_ok=True)
    if any(one.name != _LOCK for one in folder.iterdir()):
        return False
    (folder / _LOCK).unlink()
    try:
        folder.rmdir()
    except OSError:
        (folder / _LOCK).touch(mode=0o600)
        return False
    return True
