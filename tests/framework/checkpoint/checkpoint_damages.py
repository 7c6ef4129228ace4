"""What happens to files on a disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from espalier.checkpoint.manifest_file import _digest

Damage = Callable[[Path, float, Path], None]
"""Of a file, at a place between 0 and 1 in it, with another file at hand."""


def flip(file: Path, place: float, other: Path) -> None:
    data = bytearray(file.read_bytes())
    if data:  # an earlier damage may have left nothing to flip
        data[int(place * len(data))] ^= 1
    file.write_bytes(data)


def truncate(file: Path, place: float, other: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(place * len(data))])


def zero_fill(file: Path, place: float, other: Path) -> None:
    """From a place on, which is at times all of it."""
    data = file.read_bytes()
    file.write_bytes(data[: int(place * len(data))].ljust(len(data), b"\0"))


def delete(file: Path, place: float, other: Path) -> None:
    file.unlink()


def append(file: Path, place: float, other: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")


def swap(file: Path, place: float, other: Path) -> None:
    one, another = file.read_bytes(), other.read_bytes()
    file.write_bytes(another)
    other.write_bytes(one)


def replace(file: Path, place: float, other: Path) -> None:
    """By the other one."""
    file.write_bytes(other.read_bytes())


def duplicate(file: Path, place: float, other: Path) -> None:
    """Under the name of a rank that there was not; the one thing here that changes nothing that is read."""
    file.with_name("attempt-0001-rank-00017-0000.safetensors").write_bytes(file.read_bytes())


def write_newer(manifest: Path) -> None:
    """Make it the manifest of a newer espalier."""
    body = json.loads(manifest.read_bytes())["manifest"] | {"schema_version": 3, "something": "new"}
    manifest.write_text(json.dumps({"manifest": body, "xxh3": _digest(body)}))


ALONE: dict[str, Damage] = {one.__name__: one for one in (flip, truncate, zero_fill, delete, append)}
"""Those that need no other file."""
