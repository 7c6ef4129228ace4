"""Folders for the sockets and meeting files of a run, on this machine's own disk and for their owner alone.

Every process that uses one holds it: through a lock that the kernel lets go when the process ends, however it ends.
What nobody holds any more is removed at the next sweep, so what a killed run leaves is gone when the next one starts.
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
"""And not TMPDIR: Ray's sockets lie below, and the path of a socket is limited to 107 bytes."""

_PREFIX = "espalier-"
_LOCK = "held"
_LOOK_SECONDS = 0.05

_held: dict[Path, int] = {}
"""Of this process: the descriptors that hold the locks."""


def make_folder() -> Path:
    """A new empty folder of mode 0700, held by this process."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=ROOT))
    # The lock has its name once it is held: a sweep takes no folder without it for one of ours.
    descriptor, path = tempfile.mkstemp(dir=folder)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    os.rename(path, folder / _LOCK)
    _held[folder] = descriptor
    return folder


def hold(folder: Path) -> None:
    """Hold a folder that another process of this user has made, until this process ends or lets go."""
    if folder not in _held:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _held[folder] = descriptor


def let_go(folder: Path) -> None:
    """This process needs it no more."""
    if (descriptor := _held.pop(folder, None)) is not None:
        os.close(descriptor)


def remove(folder: Path, *, patience_seconds: float) -> None:
    """Let go of it, and remove it once nobody holds it. After `patience_seconds` that is left to the next sweep."""
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
    """Remove it if nobody holds it; whether it is gone."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # another sweep was here
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _empty(folder)
    except BlockingIOError:
        return False
    except FileNotFoundError:  # it was removed while this one waited to open it
        return True
    finally:
        os.close(descriptor)


def _empty(folder: Path) -> bool:
    """Remove what is in it, and itself. The lock goes last and comes back where a process that is about to end (Ray's
    agents outlive a killed cluster by a minute) has written meanwhile: without it no sweep would look here again."""
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
