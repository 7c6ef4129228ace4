"""The files of a corpus: which they are, and their bytes, unpacked within bounds."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espalier.config.data import OriginConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.config.files import matching_files

# Text packs 3 to 10 times, repetitive logs perhaps 100; bombs live near 1000, where deflate itself stops.
_MAX_UNPACKED_RATIO = 200
_MIN_UNPACKED_LIMIT_BYTES = 64 * 2**20

_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def list_files(corpus: OriginConfig, *, setting: str) -> list[Path]:
    """The corpus's files, sorted by path, each once although two patterns may name it.

    Raises:
        RefusedInput: patterns that match no readable file, all at once.
    """
    found: set[Path] = set()
    faults = []
    for position, pattern in enumerate(corpus.files):
        files = [Path(name) for name in matching_files(pattern)]
        if not files:
            allowed = "a file, or a pattern that matches some, present on every host (a folder: add `/*`)"
            faults.append(Fault(f"{setting}.files[{position}]", pattern, allowed))
        found.update(files)
    if faults:
        raise RefusedInput(faults)
    return sorted(found)


@contextmanager
def opened(path: Path, *, setting: str) -> Iterator[io.BufferedReader]:
    """The bytes of a file, unpacked if they are gzip's, whatever the file is called.

    Raises:
        RefusedInput: unreadable, broken or cut-off gzip, or one that unpacks to more than text ever does.
    """
    try:
        with open(path, "rb") as plain:
            packed = plain.peek(2)[:2] == _GZIP_MAGIC
            limit = max(_MIN_UNPACKED_LIMIT_BYTES, _MAX_UNPACKED_RATIO * path.stat().st_size)
            if packed:
                bounded = _Bounded(gzip.GzipFile(fileobj=plain), limit_bytes=limit)
                yield io.BufferedReader(bounded, 2**20)
            else:
                yield plain
    except _TooLarge as error:
        raise refused(
            path, "gzip of text, or the file unpacked", setting=setting, where=f"unpacking to over {error}"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise refused(path, "a readable, undamaged file", setting=setting, where=str(error)) from error


def read_text(path: Path, *, setting: str) -> str:
    """The whole file as one string, line ends as they are."""
    with opened(path, setting=setting) as source:
        _refuse_wide(source, path, setting)
        data = source.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(path, "text in UTF-8; convert it", setting=setting, where=f"byte {error.start}") from error


def read_lines(path: Path, *, setting: str) -> Iterator[str]:
    """The lines of a file with their ends; only a line feed ends a line."""
    with opened(path, setting=setting) as source:
        _refuse_wide(source, path, setting)
        for number, line in enumerate(source, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise refused(path, "text in UTF-8; convert it", setting=setting, where=f"row {number}") from error


def refused(path: Path, allowed: str, *, setting: str, where: str) -> RefusedInput:
    """A fault in a file; `where` says what of it is wrong: a row (or line, from 1), a trait."""
    given = f"names {path}, refused for {where}"
    return RefusedInput([Fault(f"{setting}.files", str(path), allowed, given=given)])


def _refuse_wide(source: io.BufferedReader, path: Path, setting: str) -> None:
    start = source.peek(4096)[:4096]
    if start.startswith(_UTF16_MARKS) or b"\0" in start:
        raise refused(path, "text in UTF-8; convert it", setting=setting, where="bytes of UTF-16 or no text at all")


class _TooLarge(Exception):
    """More bytes than a file of this size may hold."""


class _Bounded(io.RawIOBase):
    """A stream that ends with an error after `limit_bytes`."""

    def __init__(self, source: gzip.GzipFile, *, limit_bytes: int) -> None:
        self._source = source
        self._limit_bytes = limit_bytes
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        count = self._source.readinto(buffer)
        self._num_bytes += count
        if self._num_bytes > self._limit_bytes:
            raise _TooLarge(f"{self._limit_bytes:,} bytes")
        return count
