"""Open cached tokens, after checking that this user wrote them and that their hashes are right.

The cache is on storage that others may write to. Its files are mapped as plain integers and never unpickled.
"""

from __future__ import annotations

import functools
import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

RECORD, TOKENS, OFFSETS = "meta.json", "tokens.bin", "offsets.bin"
OFFSET_DTYPE = np.dtype("<i8")
_MAX_RECORD_BYTES = 2**16
_CHUNK_BYTES = 8 * 2**20
_HASH = Field(pattern=r"^[0-9a-f]{32}$")


@dataclass(frozen=True)
class Tokens:
    """The documents of one split as token ids.

    Attributes:
        ids: [num_tokens] uint16 or uint32, document after document, each between the tokenizer's begin and end tokens.
        offsets: [num_documents + 1] int64, where each document starts; no document is empty.
    """

    ids: NDArray[np.unsignedinteger]
    offsets: NDArray[np.int64]


class TokenRecord(BaseModel):
    """The file `meta.json`. Unknown keys are ignored; a change of meaning needs another `format`."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    format: Literal[2] = 2
    dtype: Literal["uint16", "uint32"]
    vocabulary: int = Field(gt=0, le=2**32)
    """All ids are below it."""
    num_tokens: int = Field(gt=0)
    num_documents: int = Field(gt=0)
    tokens_xxh3: str = _HASH
    offsets_xxh3: str = _HASH

    @property
    def ids_dtype(self) -> np.dtype[np.unsignedinteger]:
        return np.dtype({"uint16": "<u2", "uint32": "<u4"}[self.dtype])


class UntrustedTokens(Exception):
    """A cache folder is not as this user wrote it; the message says why."""


def open_tokens(folder: Path, *, vocabulary: int, verify: bool = True) -> Tokens | None:
    """Map the tokens in `folder` into memory; None when there is no such folder.

    Args:
        vocabulary: of the tokenizer; all ids are below it.
        verify: check the hashes, once in a process: a few seconds for each 10 GB.

    Raises:
        UntrustedTokens: another user's files, links, devices, another format, sizes or hashes other than recorded.
    """
    if not os.path.lexists(folder):  # folders appear by a rename, so they are complete
        return None
    try:
        _refuse_foreign(os.lstat(folder), stat.S_ISDIR, folder, kind="folder")
        record = _read_record(folder)
        if record.vocabulary != vocabulary:
            raise UntrustedTokens(f"{RECORD} names a vocabulary of {record.vocabulary}, not {vocabulary}")
        with _opened(folder / TOKENS) as tokens, _opened(folder / OFFSETS) as offsets:
            ids = _mapped(tokens, record.ids_dtype, record.num_tokens, name=TOKENS)
            starts = _mapped(offsets, OFFSET_DTYPE, record.num_documents + 1, name=OFFSETS)
            if verify:
                _verify(folder, record, _stamp(tokens), _stamp(offsets))
        return Tokens(ids, starts)
    except OSError as error:
        raise UntrustedTokens(str(error)) from error


def _read_record(folder: Path) -> TokenRecord:
    with _opened(folder / RECORD) as file:
        content = file.read(_MAX_RECORD_BYTES)
    try:
        return TokenRecord.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UntrustedTokens(f"{RECORD} is no record of tokens ({place}: {first['msg']})") from error


@functools.lru_cache(maxsize=64)  # results of verified files; a changed file has another stamp
def _verify(folder: Path, record: TokenRecord, tokens: tuple[int, ...], offsets: tuple[int, ...]) -> None:
    """Check hashes, that ids are below the vocabulary, and that offsets ascend. Reads both files."""
    highest = 0
    digest = xxhash.xxh3_128()
    for chunk in _chunks(folder / TOKENS):
        digest.update(chunk)
        highest = max(highest, int(np.frombuffer(chunk, record.ids_dtype).max()))
    if digest.hexdigest() != record.tokens_xxh3:
        raise UntrustedTokens(f"{TOKENS} does not have the hash that was recorded")
    if highest >= record.vocabulary:
        raise UntrustedTokens(f"{TOKENS} holds the id {highest}, which is not below {record.vocabulary}")
    digest = xxhash.xxh3_128()
    for chunk in _chunks(folder / OFFSETS):
        digest.update(chunk)
    if digest.hexdigest() != record.offsets_xxh3:
        raise UntrustedTokens(f"{OFFSETS} does not have the hash that was recorded")
    with _opened(folder / OFFSETS) as file:
        starts = _mapped(file, OFFSET_DTYPE, record.num_documents + 1, name=OFFSETS)
    if starts[0] != 0 or starts[-1] != record.num_tokens or not (np.diff(starts) > 0).all():
        raise UntrustedTokens(f"{OFFSETS} does not divide the {record.num_tokens} tokens into documents")


def _chunks(path: Path) -> Iterator[memoryview]:
    """Read a file in chunks of a whole number of ids."""
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    with _opened(path) as file:
        while count := file.readinto(buffer):
            yield buffer[:count]


def _mapped(file: BinaryIO, dtype: np.dtype[Any], length: int, *, name: str) -> NDArray[Any]:
    """Map a file that has exactly `length` numbers."""
    size = os.fstat(file.fileno()).st_size
    if size != dtype.itemsize * length:
        raise UntrustedTokens(f"{name} has {size} bytes, not the {dtype.itemsize * length} that were recorded")
    return np.memmap(file, dtype=dtype, mode="r", shape=(length,))


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file of this user's, without following links or blocking on a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "is a link" if path.is_symlink() else f"cannot be opened ({error.strerror})"
        raise UntrustedTokens(f"{path.name} {reason}") from error
    with open(descriptor, "rb") as file:
        _refuse_foreign(os.fstat(descriptor), stat.S_ISREG, path, kind="plain file")
        yield file


def _refuse_foreign(status: os.stat_result, is_kind: Callable[[int], bool], path: Path, *, kind: str) -> None:
    if not is_kind(status.st_mode):
        raise UntrustedTokens(f"{path.name} is no {kind}")
    if status.st_uid != os.geteuid() and status.st_uid != _uid_of_new_files(path.parent):
        raise UntrustedTokens(f"{path.name} belongs to another user (number {status.st_uid})")


def _uid_of_new_files(folder: Path) -> int:
    """The owner of files that this process creates there: on some network file systems it is one for all users."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_uid
    except OSError:
        return os.geteuid()


def _stamp(file: BinaryIO) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
