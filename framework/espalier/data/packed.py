"""Recognise packed files by their first bytes, and unpack them up to a bounded size."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PACKED_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""Errors that reading a damaged packed file raises."""

# Compression ratios: text 3 to 10, repetitive logs up to about 100, decompression bombs about 1000 and more.
_MAX_UNPACKED_RATIO = 200
_MIN_UNPACKED_LIMIT_BYTES = 64 * 2**20
_READ_BYTES = 2**20
_START_BYTES = 4096
_MOST_ZEROS = 0.1
"""Share of zero bytes from which it is no UTF-8: about half in UTF-16 of Latin letters, hardly any in UTF-8."""


class _Source(Protocol):
    def readinto(self, buffer: memoryview, /) -> int: ...


def _zstd(file: BinaryIO) -> _Source:
    import pyarrow

    return pyarrow.CompressedInputStream(file, "zstd")  # the standard library has zstd from Python 3.14 on


_READERS: dict[str, Callable[[BinaryIO], _Source]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": _zstd,
}
_STARTS = {  # of bzip2: the size of its blocks, then a block or, of an empty file, the end
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
}
_NOT_READ = {
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"Rar!\x1a\x07": "RAR",
    b"LZIP\x01": "lzip",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x1f\x9d": "compress",
    b"\xff\x06\0\0sNaPpY": "snappy",
}
_WIDE_MARKS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


class TooLarge(Exception):
    """A packed file unpacks to more bytes than its size allows; the message has the packing and the limit."""


def packing_of(start: bytes) -> str | None:
    """The packing that the first bytes show, or None for plain bytes."""
    return next((name for name, magic in _STARTS.items() if magic.match(start)), None)


def unpacked(file: io.BufferedReader, packing: str, *, size: int) -> io.BufferedReader:
    """Open a packed file of `size` bytes; reading more than that allows raises `TooLarge`.

    Raises:
        TooLarge, and any of `PACKED_ERRORS`, while it is read.
    """
    limit = max(_MIN_UNPACKED_LIMIT_BYTES, _MAX_UNPACKED_RATIO * size)
    return io.BufferedReader(_Bounded(_READERS[packing](file), packing, limit_bytes=limit), _READ_BYTES)


def no_text(source: io.BufferedReader) -> str | None:
    """The reason why the first bytes are no UTF-8 text; None if they may be."""
    start = source.peek(_START_BYTES)[:_START_BYTES]
    for magic, name in _NOT_READ.items():
        if start.startswith(magic):
            return f"being packed with {name}"
    if packing_of(start):
        return "being packed twice"
    for mark, name in _WIDE_MARKS.items():
        if start.startswith(mark):
            return f"being {name}"
    if start[257:262] == b"ustar":
        return "being a tar archive"
    zeros = start.count(0)
    if zeros > _MOST_ZEROS * len(start):
        return f"{zeros} zero bytes among the first {len(start)}, as in UTF-16 or in no text"
    return None


class _Bounded(io.RawIOBase):
    """A stream that raises an error after `limit_bytes`."""

    def __init__(self, source: _Source, name: str, *, limit_bytes: int) -> None:
        self._source = source
        self._name = name
        self._limit_bytes = limit_bytes
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        count = self._source.readinto(memoryview(buffer))
        self._num_bytes += count
        if self._num_bytes > self._limit_bytes:
            raise TooLarge(f"unpacking ({self._name}) to over {self._limit_bytes:,} bytes")
        return count
