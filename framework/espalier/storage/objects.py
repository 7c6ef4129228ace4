"""A storage in an object store: S3, or any other store that fsspec supports.

A store has whole objects only: no folders, no rename, no writes in place. An acknowledged put is durable, and one that
was not acknowledged does not exist, so the put of a manifest is the commit.
"""

from __future__ import annotations

import errno
import os
import random
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from safetensors import safe_open

from espalier.config.faults import Fault, RefusedInput
from espalier.storage.contract import COMMIT, Bytes, NotAsWritten, Storage, is_plain, leaves
from espalier.storage.local import LocalStorage, xxh3_of

_PAUSES_SECONDS = (1.0, 4.0, 16.0)  # between our retries; a store's own client retries for seconds within each
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}
_PASSING_ERRNO = {errno.EBUSY, errno.EREMOTEIO, errno.EAGAIN, errno.ENETUNREACH, errno.EHOSTUNREACH}
# By class name, because a client's library may not be installed: botocore's, aiohttp's and requests' exceptions.
_PASSING_NAMES = {"ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError"}
_EXISTS = (errno.EEXIST, errno.EINVAL)  # s3fs turns HTTP status 412 into EINVAL
_NO_EXCLUSIVE_PUT = (errno.ENOSYS, errno.EOPNOTSUPP)
_MAX_KEPT_FILES = 256  # each holds a file descriptor; a process often has 1024


def open_storage(place: str | Path) -> Storage:
    """The storage that a place names: an absolute path, or a URL such as `s3://bucket/runs/one`.

    Credentials and addresses of a store come from the environment, as its fsspec file system reads them.

    Raises:
        RefusedInput: a relative path, a URL that names no store, or one whose library is not installed.
    """
    scheme, found, rest = str(place).partition("://")
    if isinstance(place, Path) or not found or scheme in ("file", "local"):
        path = Path(rest if found and not isinstance(place, Path) else place)
        if not path.is_absolute():
            raise RefusedInput(
                [Fault("checkpoints", str(place), "an absolute path, or a URL such as `s3://bucket/runs`")]
            )
        return LocalStorage(path)
    if "::" in str(place):  # fsspec's chained URLs put a cache in front of the store
        raise RefusedInput([Fault("checkpoints", str(place), "the URL of one store, without `::`")])
    try:
        files, root = url_to_fs(str(place))
    except ImportError as error:
        allowed = f"a store whose library is installed ({error}); S3 is in `pip install 'espalier-train[s3]'`"
        raise RefusedInput([Fault("checkpoints", f"{scheme}://", allowed)]) from None
    except (ValueError, TypeError, AttributeError, OSError):  # what fsspec's file systems raise for an unknown URL
        allowed = "a store that fsspec knows, such as s3://, gs:// or az://"
        raise RefusedInput([Fault("checkpoints", f"{scheme}://", allowed)]) from None
    if not root.strip("/"):
        raise RefusedInput(
            [Fault("checkpoints", str(place), f"a bucket or folder too, such as `{scheme}://bucket/runs`")]
        )
    return ObjectStorage(files, root)


class ObjectStorage:
    """The objects of a store whose names begin with one root.

    `write_bytes` and `publish` are one put, which is atomic. A killed multipart upload shows no object, but the store
    keeps its parts: set a lifecycle rule of the bucket that ends unfinished uploads. `rename` copies and deletes, so
    it is not atomic and commits nothing. There are no folders: one `exists` while an object is in it. Removing a
    missing object is no error, because a delete whose answer was lost is repeated.

    Transient errors (a busy store, a lost connection) are retried a few times; any other error is an `OSError` at
    once. Every request goes to the store: fsspec's cache of listings is emptied before it. A store with delayed
    listings only hides the newest checkpoints for a while: whether a folder is committed never depends on a listing.

    Tensors are read from whole files downloaded to the local disk (`TMPDIR`; memory if that is a tmpfs). A copy has no
    name, so it is freed however the process ends. Hashing downloads too, and up to `max_kept_bytes` of copies are kept
    while the store's object is unchanged: a checkpoint that is verified and then read is downloaded once if it fits,
    else twice. Beyond that bound the disk holds the files that a reader has open. Additional memory: some tens of MB
    of a client's buffers; when writing, the size of the file once.
    """

    def __init__(self, files: fsspec.AbstractFileSystem, root: str, *, max_kept_bytes: int = 16 * 2**30) -> None:
        """Store the settings; sends no request.

        Args:
            files: fsspec's file system, whose `pipe_file` is atomic.
            root: prefix of all names, as `files` writes them: `bucket/prefix`.
            max_kept_bytes: bound of the local copies that are kept for later reads.
        """
        self.root = root.rstrip("/")
        self._files = files
        self._max_kept_bytes = max_kept_bytes
        self._kept: dict[str, _Copy] = {}

    def write_bytes(self, path: str, *parts: Bytes) -> None:
        self._ask(self._files.pipe_file, self._inside(path), b"".join(parts))

    def publish(self, path: str, data: bytes) -> None:
        target = self._inside(path)
        try:
            self._ask(partial(self._files.pipe_file, mode="create"), target, data)
        except OSError as error:
            if error.errno in _NO_EXCLUSIVE_PUT:
                if self.exists(path):  # the store has no exclusive put; this check is not atomic
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
                self.write_bytes(path, data)
            elif not isinstance(error, FileExistsError) and error.errno not in _EXISTS:
                raise
            elif not self._holds(path, data):  # equal content: an earlier try succeeded and its answer was lost
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None

    def replace(self, path: str, data: bytes) -> None:
        self.write_bytes(path, data)

    def make_folder(self, path: str) -> None:
        self._inside(path)

    def sync_folder(self, path: str) -> None:
        self._inside(path)

    def rename(self, old: str, new: str, *, replace: bool = True) -> None:
        assert replace, "nothing is renamed exclusively in a store: `publish` puts"
        source, target = self._inside(old), self._inside(new)
        found = list(self._below(source))
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        for name in found:
            self._ask(self._files.cp_file, name, target + name.removeprefix(source))
        self.remove(old)

    def remove(self, path: str) -> None:
        target = self._inside(path)
        assert target != self.root, "the root itself is never removed"
        # The manifest goes first, so that an interrupted removal leaves no committed checkpoint.
        for name in sorted(self._below(target), key=lambda name: PurePosixPath(name).name != COMMIT):
            self._kept.pop(name, None)
            self._ask(self._delete, name)

    def exists(self, path: str) -> bool:
        # Not fsspec's own `exists`, which returns False for every error.
        try:
            self._ask(self._files.info, self._inside(path))
        except FileNotFoundError:
            return False
        return True

    def list(self, path: str) -> tuple[str, ...]:
        folder = self._inside(path)
        try:
            found = self._ask(self._files.ls, folder, False)
        except FileNotFoundError:
            return ()
        names = {name.rstrip("/").removeprefix(f"{folder}/") for name in found if name.startswith(f"{folder}/")}
        return tuple(sorted(names - {""}))

    def num_bytes(self, path: str) -> int:
        return self._info(path)["size"]

    def xxh3(self, path: str) -> str:
        return self._copy(path).xxh3

    def read_bytes(self, path: str, *, max_bytes: int) -> bytes:
        if self.num_bytes(path) > max_bytes:
            raise ValueError(f"`{path}` is larger than {max_bytes} bytes")
        return self._ask(self._files.cat_file, self._inside(path))

    def open_tensors(self, path: str, *, xxh3: str | None = None) -> safe_open:
        for _ in range(2):
            copy = self._copy(path)
            if xxh3 in (None, copy.xxh3):
                return safe_open(copy.path, framework="pt", device="cpu")
            self._kept.pop(self._inside(path), None)
        raise NotAsWritten("it is not as it was written")

    def free_bytes(self) -> int:
        return 2**60  # a store has no fixed size, and reports a quota only by refusing a put

    def _holds(self, path: str, data: bytes) -> bool:
        return self.num_bytes(path) == len(data) and self.read_bytes(path, max_bytes=len(data)) == data

    def _inside(self, path: str) -> str:
        """The object name, or the prefix of object names, of a path."""
        if not is_plain(path):
            raise leaves(path, self.root)
        relative = PurePosixPath(path).as_posix()
        return self.root if relative == "." else f"{self.root}/{relative}"

    def _below(self, target: str) -> Sequence[str]:
        """The object of this name and all objects below `name/`."""
        return self._ask(self._files.find, target)

    def _info(self, path: str) -> dict[str, Any]:
        """The store's description of an object: size, and fields that change when it is written again."""
        target = self._inside(path)
        info = self._ask(self._files.info, target)
        if info["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        return info

    def _delete(self, name: str) -> None:
        with suppress(FileNotFoundError):  # deleted by an earlier try, or a delayed listing
            self._files.rm_file(name)

    def _copy(self, path: str) -> _Copy:
        target, info = self._inside(path), self._info(path)
        kept = self._kept.get(target)
        if kept is not None and kept.info == info:
            return kept
        self._kept.pop(target, None)
        copy = _Copy(info)
        self._ask(self._download, target, copy)
        num_kept_bytes = sum(one.info["size"] for one in list(self._kept.values()))
        if num_kept_bytes + info["size"] <= self._max_kept_bytes and len(self._kept) < _MAX_KEPT_FILES:
            self._kept[target] = copy
        return copy

    def _download(self, name: str, copy: _Copy) -> None:
        self._files.get_file(name, str(copy.path))
        num_bytes, expected = copy.path.stat().st_size, copy.info["size"]
        if num_bytes != expected:
            raise ConnectionError(f"`{name}`: {num_bytes} bytes came where the store has {expected}")

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Send a request; retry transient errors, and turn any other into an `OSError`."""
        for pause_seconds in (*_PAUSES_SECONDS, None):
            try:
                self._files.invalidate_cache()
                return call(*arguments)
            except Exception as error:
                if pause_seconds is None or not passes(error):
                    if isinstance(error, OSError):
                        raise
                    raise OSError(errno.EIO, f"{type(error).__name__}: {error}", arguments[0]) from error
            # Jitter, so that ranks do not retry at the same time; SystemRandom leaves the run's generators alone.
            time.sleep(pause_seconds * random.SystemRandom().uniform(0.5, 1.0))
        raise AssertionError("the last try returns or raises")


class _Copy:
    """An unnamed local file for one object's content, freed when the last reference to it goes.

    Attributes:
        info: the store's description of the object.
        path: of the open file, which has no name in any folder.
    """

    def __init__(self, info: dict[str, Any]) -> None:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, descriptor)
        self.info = info
        self.path = Path(f"/proc/self/fd/{descriptor}")

    @cached_property
    def xxh3(self) -> str:
        """Of its content, which stays as it came: nobody else can open the file."""
        return xxh3_of(self.path)


def passes(error: BaseException) -> bool:
    """Whether an error or one of its causes is transient: a busy or throttling store, a lost connection."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, FileNotFoundError | PermissionError):
            return False
        if isinstance(cause, ConnectionError | TimeoutError) or getattr(cause, "errno", None) in _PASSING_ERRNO:
            return True
        if _status(cause) in _PASSING_STATUS or _PASSING_NAMES & {kind.__name__ for kind in type(cause).__mro__}:
            return True
        cause = cause.__cause__
    return False


def _status(error: BaseException) -> object:
    """The HTTP status of a client's exception; None when it has none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    found = (getattr(error, name, None) for name in ("status", "status_code", "code"))  # aiohttp, azure, gcsfs
    return next((status for status in found if isinstance(status, int)), None)
