"""A storage in a folder of a local or network file system."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import xxhash
from safetensors import safe_open

from espalier.storage.contract import Bytes, is_plain, leaves, unfinished
from espalier.storage.regular_file import open_regular, read_whole

_CHUNK_BYTES = 8 * 2**20
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK)


class LocalStorage:
    """A folder of a file system that every worker sees. It can also append to files, which a run's records need."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def write_bytes(self, path: str, *parts: Bytes) -> None:
        with _naming(path), self._inside(path).open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())

    def publish(self, path: str, data: bytes) -> None:
        made = unfinished(path)
        self.write_bytes(made, data)
        try:
            self.rename(made, path, replace=False)
        except FileExistsError:
            self.remove(made)
            raise
        self.sync_folder(PurePosixPath(path).parent.as_posix())

    def make_folder(self, path: str, *, mode: int | None = None) -> None:
        """Create a folder and its parents where they are missing.

        Args:
            mode: of a newly created folder itself, regardless of the umask; its parents follow the umask.
        """
        folder = self._inside(path)
        for one in reversed((folder, *folder.parents)):
            missing = not one.exists()
            if missing:
                with suppress(FileExistsError):
                    one.mkdir(mode=0o700 if mode is not None and one == folder else 0o777)
                    if mode is not None and one == folder:
                        one.chmod(mode)
            # Sync an existing folder too: a process that was killed before syncing may have created it.
            if missing or one == self.root or self.root in one.parents:
                _sync(one.parent)

    def rename(self, old: str, new: str, *, replace: bool = True) -> None:
        source, target = self._inside(old), self._inside(new, follow=False)
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
        with open_regular(self._inside(path)) as file:
            content = read_whole(file, max_bytes=max_bytes)
        if content is None:
            raise ValueError(f"`{path}` is larger than {max_bytes} bytes")
        return content

    def open_tensors(self, path: str, *, xxh3: str | None = None) -> safe_open:
        file = self._inside(path)
        open_regular(file).close()
        return safe_open(file, framework="pt", device="cpu")

    def replace(self, path: str, data: bytes) -> None:
        """Write a file that may exist, atomically and durably; an error names the file, not the temporary one."""
        made = unfinished(path)
        try:
            self.write_bytes(made, data)
            self.rename(made, path)
        except OSError as error:
            with suppress(OSError):
                self.remove(made)
            error.filename = str(self.root / path)
            raise
        self.sync_folder(PurePosixPath(path).parent.as_posix())

    def append(self, path: str, data: bytes) -> None:
        """Append to a file in one write, creating it if missing; `sync_file` makes that durable.

        The file is opened for each call, because on a network file system other hosts see the data only after
        closing, and because the file may have been replaced in the meantime.
        """
        with _naming(path), self._inside(path).open("ab", buffering=0) as file:
            if file.write(data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read_end(self, path: str, num_bytes: int) -> bytes:
        """The last `num_bytes` bytes of a file, or the whole file when it is shorter."""
        with open_regular(self._inside(path)) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - num_bytes))
            return file.read()

    def sync_file(self, path: str) -> None:
        """Make a file's content and name durable."""
        _sync(self._inside(path))
        self.sync_folder(PurePosixPath(path).parent.as_posix())

    def free_bytes(self) -> int:
        there = next(one for one in (self.root, *self.root.parents) if one.exists())
        return shutil.disk_usage(there).free

    def _inside(self, path: str, *, follow: bool = True) -> Path:
        """The absolute path, after checking that it stays inside the root when its links are followed.

        Args:
            follow: whether the last component is followed too; not for the target of a rename, which replaces a link.
        """
        target = self.root / path
        if not is_plain(path) or not _resolved(target if follow else target.parent).is_relative_to(self.root):
            raise leaves(path, str(self.root))
        return target


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError:  # raised by Python 3.11 for a loop of links
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from None


def xxh3_of(file: Path) -> str:
    """XXH3 (128 bits, hex) of a local file's content, read in bounded memory."""
    digest = xxhash.xxh3_128()
    with open_regular(file) as opened:
        while chunk := opened.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _link(source: Path, target: Path) -> bool:
    """Rename a file by a hard link, which fails if the target exists; False if the file system has no hard links.

    Raises:
        FileExistsError: the target exists.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():  # without hard links there is only this check, which is not atomic
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        return False
    source.unlink()
    return True


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Add the file's name to an `OSError` that has none, such as a full disk's."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or path
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot sync folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
