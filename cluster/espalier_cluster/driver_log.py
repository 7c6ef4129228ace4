"""Keep what the driver of a submitted run prints in the run's folder, `logs/driver/<number>.log`.

A part that is full is never written again, so whoever reads knows his place by a number and an offset for good; the
oldest parts are removed. Lines are kept without secrets, there and in Ray's own log of the job.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier_cluster.secret_text import secret_values, without_secrets

FOLDER = "logs/driver"

_PART_BYTES = 8 * 2**20
_NUM_PARTS = 8
_HELD_BYTES = 2**20
_LONGEST_LINE = 2**16
_READ_BYTES = 2**16
_END_SECONDS = 5.0
_PART = re.compile(r"([0-9]{6,9})\.log")


def parts(files: LocalStorage) -> list[int]:
    """The numbers of the parts that there are, rising."""
    return sorted(int(found[1]) for found in map(_PART.fullmatch, files.list(FOLDER)) if found)


def part_path(number: int) -> str:
    return f"{FOLDER}/{number:06d}.log"


class LogParts:
    """Appends to the last part, and begins another one when it is full. A new writer begins one of its own.

    What cannot be written, as of a storage that is away, is held and written later, up to `_HELD_BYTES`.
    """

    def __init__(self, folder: RunFolder, *, part_bytes: int = _PART_BYTES, num_parts: int = _NUM_PARTS) -> None:
        self._files = folder.files
        self._part_bytes, self._num_parts = part_bytes, num_parts
        self._number = 0
        self._size = 0
        self._held = b""

    def write(self, text: bytes) -> None:
        """Append whole lines."""
        self._held += text
        try:
            while self._held:
                self._write_some()
        except OSError:
            self._drop_written()
            if len(self._held) > _HELD_BYTES:
                self._held = b"--- lines are missing here: the storage did not take them\n" + self._newest_held()

    def _write_some(self) -> None:
        """Write as many whole lines as fit into the part; one that fits into none has a part of its own."""
        end = self._held.rfind(b"\n", 0, max(0, self._part_bytes - self._size)) + 1
        if not self._number or (not end and self._size):
            self._begin_part()
            end = self._held.rfind(b"\n", 0, self._part_bytes) + 1
        some = self._held[: end or self._held.find(b"\n") + 1 or len(self._held)]
        self._files.append(part_path(self._number), some)
        self._size += len(some)
        self._held = self._held[len(some) :]

    def _begin_part(self) -> None:
        self._files.make_folder(FOLDER)
        known = parts(self._files)
        for old in known[: max(0, len(known) + 1 - self._num_parts)]:
            self._files.remove(part_path(old))
        self._number, self._size = max(known, default=0) + 1, 0

    def _drop_written(self) -> None:
        """Of a write that ended in an error a part may have been written."""
        with contextlib.suppress(OSError):
            if self._number and self._files.exists(part_path(self._number)):
                written = self._files.num_bytes(part_path(self._number)) - self._size
                self._size += written
                self._held = self._held[written:]

    def _newest_held(self) -> bytes:
        newest = self._held[-_HELD_BYTES // 2 :]
        return newest[newest.find(b"\n") + 1 :]


@contextlib.contextmanager
def mirrored(folder: RunFolder) -> Iterator[None]:
    """Copy stdout and stderr of this process, native libraries' too, into the run's folder.

    What is printed goes on to where it went before, without secrets too.
    """
    values = secret_values(os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    streams = sys.stdout, sys.stderr
    before = os.dup(1), os.dup(2)
    read_end, write_end = os.pipe()
    copier = threading.Thread(target=_copy, args=(read_end, before[0], LogParts(folder), values), daemon=True)
    os.dup2(write_end, 1)
    os.dup2(write_end, 2)
    os.close(write_end)
    copier.start()
    try:
        # New objects: those of a file go on to seek in what is a pipe now.
        sys.stdout, sys.stderr = map(_text_stream, (1, 2))
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        for descriptor, old in zip((1, 2), before, strict=True):
            os.dup2(old, descriptor)
        copier.join(_END_SECONDS)  # a child that lives on holds the pipe open
        os.close(before[1])


def _text_stream(descriptor: int) -> TextIO:
    return open(descriptor, "w", buffering=1, errors="replace", closefd=False)


def _copy(read_end: int, output: int, log: LogParts, values: tuple[bytes, ...]) -> None:
    """Copy whole lines until the pipe is closed; a line without end is cut."""
    rest = b""
    while some := os.read(read_end, _READ_BYTES):
        rest += some
        end = rest.rfind(b"\n") + 1
        if not end and len(rest) > _LONGEST_LINE:
            rest, end = rest + b"\n", len(rest) + 1
        lines, rest = without_secrets(rest[:end], values), rest[end:]
        _pass_on(output, lines)
        log.write(lines)
    last = without_secrets(rest, values)
    _pass_on(output, last)
    log.write(last + b"\n" if last else b"")
    os.close(read_end)


def _pass_on(output: int, text: bytes) -> None:
    with contextlib.suppress(OSError):  # the disk of Ray's log is full
        while text:
            text = text[os.write(output, text) :]
