"""One spoiled input given to one command, in this process: what came out, and whether anything else changed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from espalier_cluster.command import main
from faults.fuzzing.mutations import SECRET

ALLOWED = {"verify": (0, 1, 2), "run": (0, 2, 3, 75)}
"""Exit codes of a command that may end otherwise than with 0 or 2."""


@dataclass(frozen=True)
class Outcome:
    """Of one command.

    Attributes:
        fault: what was wrong with it, for people; empty when nothing was. Equal for equal faults.
        text: what it printed.
    """

    fault: str
    text: str


def play(arguments: tuple[str, ...]) -> Outcome:
    """Give a command, as a person would, in the folder that this process stands in."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="replace", write_through=True)
    code: object = 0
    try:
        with _arguments(arguments), contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            main()
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException as error:
        return Outcome(_signature(error), f"{_printed(stream)}\n{traceback.format_exc()}")
    text = _printed(stream)
    allowed = next((codes for word, codes in ALLOWED.items() if word in arguments[:2]), (0, 2))
    if code not in allowed and not (code == 1 and "cannot be used:" in text and "put its files back" in text):
        said = next(iter(text.strip().splitlines()[-1:]), "")
        return Outcome(f"exit {code}: {said:.100}", text)
    if "Traceback (most recent" in text:
        return Outcome("a traceback on the terminal", text)
    if code == 2 and not text.strip():
        return Outcome("refused without a word", text)
    return Outcome(f"{SECRET} on the terminal" if SECRET in text else "", text)


def _printed(stream: io.TextIOWrapper) -> str:
    return stream.buffer.getvalue().decode("utf-8", "replace")


@contextlib.contextmanager
def _arguments(arguments: tuple[str, ...]) -> Iterator[None]:
    before = sys.argv
    sys.argv = ["espalier", *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _signature(error: BaseException) -> str:
    """The error's type and the innermost place of ours that it went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "espalier" in frame.filename]
    inner = frames[-1] if frames else None
    place = f"{Path(inner.filename).parent.name}/{Path(inner.filename).name}:{inner.name}" if inner else "?"
    return f"{type(error).__name__} in {place}"


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What lies below a folder: mode, size and time of change of each entry; links are not followed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)
            stat = os.lstat(path)
            size, when = (0, 0) if name in folders else (stat.st_size, stat.st_mtime_ns)
            found[os.path.relpath(path, folder)] = (stat.st_mode, size, when)
    return found
