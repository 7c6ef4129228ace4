"""The files of a corpus: which they are, and their bytes, unpacked within bounds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espalier.config.data import OriginConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.config.files import matching_files
from espalier.data.packed import PACKED_ERRORS, TooLarge, no_text, packing_of, unpacked

_NO_TEXT = "text in UTF-8, plain or packed with gzip, bzip2, xz or zstd; convert or unpack it"


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
    """The bytes of a file, unpacked if they are gzip's, bzip2's, xz's or zstd's, whatever the file is called.

    Raises:
        RefusedInput: unreadable, broken or cut-off packing, or a file that unpacks to more than text ever does.
    """
    try:
        with open(path, "rb") as plain:
            packing = packing_of(plain.peek(16))
            yield unpacked(plain, packing, size=path.stat().st_size) if packing else plain
    except TooLarge as error:
        raise refused(path, "packed text, or the file unpacked", setting=setting, where=str(error)) from None
    except PACKED_ERRORS as error:
        raise refused(path, "a readable, undamaged file", setting=setting, where=str(error)) from error


def read_text(path: Path, *, setting: str) -> str:
    """The whole file as one string, line ends as they are."""
    with opened(path, setting=setting) as source:
        refuse_no_text(source, path, setting=setting)
        data = source.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(path, "text in UTF-8; convert it", setting=setting, where=f"byte {error.start}") from error


def read_lines(path: Path, *, setting: str) -> Iterator[str]:
    """The lines of a file with their ends; only a line feed ends a line."""
    with opened(path, setting=setting) as source:
        refuse_no_text(source, path, setting=setting)
        for number, line in enumerate(source, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise refused(path, "text in UTF-8; convert it", setting=setting, where=f"row {number}") from error


def refused(path: Path, allowed: str, *, setting: str, where: str) -> RefusedInput:
    """A fault in a file; `where` says what of it is wrong: a row (or line, from 1), a trait."""
    given = f"names {path}, refused for {where}"
    return RefusedInput([Fault(f"{setting}.files", str(path), allowed, given=given)])


def refuse_no_text(source: io.BufferedReader, path: Path, *, setting: str) -> None:
    """Refuse a file whose start is none of text in UTF-8."""
    if reason := no_text(source):
        raise refused(path, _NO_TEXT, setting=setting, where=reason)
