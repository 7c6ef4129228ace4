"""Find and open the files of a corpus; packed ones are unpacked up to a bounded size."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from espalier.config.data import OriginConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.config.files import link_of_another, matching_files
from espalier.data.packed import PACKED_ERRORS, TooLarge, no_text, packing_of, unpacked

_NO_TEXT = "text in UTF-8, plain or packed with gzip, bzip2, xz or zstd; convert or unpack it"


def list_files(corpus: OriginConfig, *, setting: str) -> list[Path]:
    """List the corpus's files, sorted by path, each once.

    Raises:
        RefusedInput: patterns that match no readable file, or links that other users have placed, all at once.
    """
    found: set[Path] = set()
    faults = []
    for position, pattern in enumerate(corpus.files):
        files = [Path(name) for name in matching_files(pattern)]
        if not files:
            allowed = "a file, or a pattern that matches some, present on every host (a folder: add `/*`)"
            faults.append(Fault(f"{setting}.files[{position}]", pattern, allowed))
        faults += (_of_another(f"{setting}.files[{position}]", link) for link in map(link_of_another, files) if link)
        found.update(files)
    if faults:
        raise RefusedInput(faults)
    return sorted(found)


def _of_another(path: str, link: Path) -> Fault:
    given = f"names {link}, a link that another user made to what is not that user's"
    return Fault(path, str(link), "the file that it leads to, if you meant that one", given=given)


@contextmanager
def opened(path: Path, *, setting: str) -> Iterator[io.BufferedReader]:
    """Open a file for reading; gzip, bzip2, xz and zstd are recognised by content and unpacked.

    Raises:
        RefusedInput: an unreadable file, damaged packing, or a file that unpacks to far more than text does.
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
    """Read a file as one string; line ends are kept."""
    with opened(path, setting=setting) as source:
        refuse_no_text(source, path, setting=setting)
        data = source.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(path, "text in UTF-8; convert it", setting=setting, where=f"byte {error.start}") from error


def read_lines(path: Path, *, setting: str) -> Iterator[str]:
    """Yield the lines of a file with their ends; only a line feed ends a line."""
    with opened(path, setting=setting) as source:
        refuse_no_text(source, path, setting=setting)
        for number, line in enumerate(source, start=1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise refused(path, "text in UTF-8; convert it", setting=setting, where=f"row {number}") from error


def refused(path: Path, allowed: str, *, setting: str, where: str) -> RefusedInput:
    """The refusal of a file; `where` says what in it is wrong, such as a row or line (from 1)."""
    given = f"names {path}, refused for {where}"
    return RefusedInput([Fault(f"{setting}.files", str(path), allowed, given=given)])


def refuse_no_text(source: io.BufferedReader, path: Path, *, setting: str) -> None:
    """Raise if the first bytes of a file are no UTF-8 text."""
    if reason := no_text(source):
        raise refused(path, _NO_TEXT, setting=setting, where=reason)
