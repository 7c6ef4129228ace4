"""A storage over an object store: S3, or whatever fsspec has a file system for.

A store knows whole objects alone: no folders, no rename, no byte written in place. What a store acknowledges
is durable, and what it has not acknowledged is not there, so the put of a manifest is the commit.
"""

from __future__ import annotations

import errno
import os
import random
import tempfile
import time
import weakref
from collections.abc import Callable
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

_PAUSES_SECONDS = (1.0, 4.0, 16.0)  # between tries of ours: a store's own client tries for seconds in each
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}
_PASSING_ERRNO = {errno.EBUSY, errno.EREMOTEIO, errno.EAGAIN, errno.ENETUNREACH, errno.EHOSTUNREACH}
# By name, as a client's library is there only where its store is used: botocore's, aiohttp's, and requests' own.
_PASSING_NAMES = {"ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError"}
_IS_THERE = (errno.EEXIST, errno.EINVAL)  # s3fs makes EINVAL of an answer 412
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
    if "::" in str(place):  # a cache in front of a store would answer for it
        raise RefusedInput([Fault("checkpoints", str(place), "the URL of one store, without `::`")])
    try:
        files, root = url_to_fs(str(place))
    except ImportError as error:
        allowed = f"a store whose library is installed ({error}); S3 is in `pip install 'espalier-train[s3]'`"
        raise RefusedInput([Fault("checkpoints", f"{scheme}://", allowed)]) from None
    except (ValueError, TypeError, AttributeError, OSError):  # what file systems make of a place that is none of theirs
        allowed = "a store that fsspec knows, such as s3://, gs:// or az://"
        raise RefusedInput([Fault("checkpoints", f"{scheme}://", allowed)]) from None
    if not root.strip("/"):
        raise RefusedInput(
            [Fault("checkpoints", str(place), f"a bucket or folder too, such as `{scheme}://bucket/runs`")]
        )
    return ObjectStorage(files, root)


class ObjectStorage:
    """Objects whose names begin with one root.

    `write_bytes` and `publish` are one put: an object is there whole or not at all. An upload in parts whose
    process is killed leaves nothing that a name shows, but the store keeps its parts: let a lifecycle rule of
    the bucket end unfinished uploads. `rename` copies and deletes, so it is no single step, and nothing is
    committed with it. There are no folders: one `exists` while an object lies in it, and to remove what is not
    there is no error, as a delete whose answer was lost is tried again.

    What passes (a store that is busy, a lost connection) is tried again a few times; all else is an `OSError`
    at once. Every question goes to the store: fsspec's cache of listings is emptied before it. A store that
    lists late only hides the newest checkpoints for a while: whether a folder is committed is never asked of
    a listing.

    Tensors are read from whole files copied to the local disk (`TMPDIR`; memory where that is a tmpfs). A copy
    has no name, so nothing is left of it however the process ends. Hashing makes one too, and up to
    `max_kept_bytes` are kept for the next question, while the store shows the object unchanged: a checkpoint
    that is verified and then read crosses the network once if it fits, else twice. Beyond that bound the disk
    holds the files that a reader has open. Memory beyond what is asked for is a client's buffers: some
    tens of MB; of a file that is written, once its size.
    """

    def __init__(self, files: fsspec.AbstractFileSystem, root: str, *, max_kept_bytes: int = 16 * 2**30) -> None:
        """Begin, without a question to the store.

        Args:
            files: makes each of its `pipe_file` visible whole or not at all.
            root: of all paths, as `files` writes names: `bucket/prefix`.
            max_kept_bytes: of local copies kept for the next question.
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
                if self.exists(path):  # looking first is the best that is left
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
                self.write_bytes(path, data)
            elif not isinstance(error, FileExistsError) and error.errno not in _IS_THERE:
                raise
            elif not self._holds(path, data):  # it does where the answer to an earlier try was lost
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
        # Stopped half-way, what remains must be no checkpoint.
        for name in sorted(self._below(target), key=lambda name: PurePosixPath(name).name != COMMIT):
            self._kept.pop(name, None)
            self._ask(self._delete, name)

    def exists(self, path: str) -> bool:
        # Not the file system's own `exists`, which takes every error for a no.
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
        return 2**60  # a store has no size of its own, and does not tell a quota before it refuses a put

    def _holds(self, path: str, data: bytes) -> bool:
        return self.num_bytes(path) == len(data) and self.read_bytes(path, max_bytes=len(data)) == data

    def _inside(self, path: str) -> str:
        """Name of the object, or beginning of the names, that `path` stands for."""
        if not is_plain(path):
            raise leaves(path, self.root)
        relative = PurePosixPath(path).as_posix()
        return self.root if relative == "." else f"{self.root}/{relative}"

    def _below(self, target: str) -> list[str]:
        """The object of this name, and all whose names go on with `/`."""
        return self._ask(self._files.find, target)

    def _info(self, path: str) -> dict[str, Any]:
        """What the store tells of an object: its size, and what changes when it is written again."""
        target = self._inside(path)
        info = self._ask(self._files.info, target)
        if info["type"] != "file":
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
        return info

    def _delete(self, name: str) -> None:
        with suppress(FileNotFoundError):  # an earlier try did it, or a listing was late
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
        """The store's answer to `call`; what passes is asked again, what stays is an `OSError`."""
        for pause_seconds in (*_PAUSES_SECONDS, None):
            try:
                self._files.invalidate_cache()
                return call(*arguments)
            except Exception as error:
                if pause_seconds is None or not passes(error):
                    if isinstance(error, OSError):
                        raise
                    raise OSError(errno.EIO, f"{type(error).__name__}: {error}", arguments[0]) from error
            # Ranks that failed together must not come back together; the numbers of a run stay its own.
            time.sleep(pause_seconds * random.SystemRandom().uniform(0.5, 1.0))
        raise AssertionError("the last try returns or raises")


class _Copy:
    """Room for one object's content on the local disk, given back when nobody holds it.

    Attributes:
        info: what the store told of the object.
        path: of a file that no folder lists.
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
    """Whether an error, or one that it stands for, is of a kind that goes away: busy, throttled, cut off."""
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
    """HTTP status, where the clients of the stores keep it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    found = (getattr(error, name, None) for name in ("status", "status_code", "code"))  # aiohttp, azure, gcsfs
    return next((status for status in found if isinstance(status, int)), None)
