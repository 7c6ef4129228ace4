"""What can be wrong with a file: values of other kinds, bytes, and things that are no plain file at all."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from hypothesis import strategies as st

Kind = Literal["yaml", "json", "jsonl", "csv", "bytes"]
T = TypeVar("T")
SECRET = "canary-4d1f0c"
"""Stands in a file outside the run; nothing may carry it to where it does not belong."""

_ODD_TEXTS = [
    "",
    "\0",
    "../../canary/secret.txt",
    "/etc/hostname",
    "[/red]",
    "\x1b[31mred",
    "=1+1",
    "'\"<b>",
    "`x`\n---",
    "x" * 5000,
    "memory://x",
    "github://x:y@/z",
    "10K",
    "1e4",
    "true",
    "ü\u202e",
    "heal",
]
_ODD_NUMBERS = [0, -1, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf]


def _one_of(values: Sequence[T]) -> st.SearchStrategy[T]:
    """Any of some values, which hypothesis then does not print."""
    return st.integers(0, len(values) - 1).map(lambda number: values[number])


_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.floats(), _one_of([*_ODD_TEXTS, *_ODD_NUMBERS]))
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@dataclass(frozen=True)
class Mutation:
    """One thing done to one file.

    Attributes:
        apply: called with the path of the file, which exists.
    """

    name: str
    apply: Callable[[Path], None]


def mutations(good: bytes, kind: Kind, *, outside: Path) -> st.SearchStrategy[Mutation]:
    """Ways to spoil a file.

    Args:
        good: what the file holds.
        outside: a file that does not belong to what is read; links may point there.
    """
    ways = [_spoiled_bytes(good), _no_plain_file(outside)]
    if kind in ("json", "yaml"):
        ways += [_spoiled_value(_parse(good, kind), lambda value: _dump(value, kind))] * 6
    elif kind == "jsonl":
        lines = [json.loads(line) for line in good.splitlines()]
        ways += [_spoiled_value(lines, lambda rows: b"".join(_dump(row, "json") + b"\n" for row in _listed(rows)))] * 6
    elif kind == "csv":
        table = list(csv.reader(io.StringIO(good.decode())))
        ways += [_spoiled_value(table, _table)] * 6
    return st.one_of(ways)


def _parse(good: bytes, kind: Kind) -> Any:
    return json.loads(good) if kind == "json" else yaml.safe_load(good)


def _dump(value: Any, kind: Kind) -> bytes:
    text = json.dumps(value) if kind == "json" else yaml.safe_dump(value, sort_keys=False)
    return text.encode("utf-8", "surrogatepass")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _table(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([map(str, _listed(row)) for row in _listed(rows)])
    return text.getvalue().encode("utf-8", "surrogatepass")


def places(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The place of each value inside, the whole first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def changed(value: Any, place: tuple[str | int, ...], change: Callable[[Any], Any]) -> Any:
    """A copy in which one place is another."""
    if not place:
        return change(value)
    copy = value.copy()
    copy[place[0]] = changed(value[place[0]], place[1:], change)
    return copy


def _without(value: Any, key: str | int) -> Any:
    if isinstance(value, dict):
        return {name: one for name, one in value.items() if name != key}
    return [one for number, one in enumerate(value) if number != key]


def _spoiled_value(value: Any, dump: Callable[[Any], bytes]) -> st.SearchStrategy[Mutation]:
    everywhere = places(value)
    inner = [place for place in everywhere if place]

    def written(name: str, made: Any) -> Mutation:
        return Mutation(name, lambda path: _write(path, dump(made)))

    def replaced(place: tuple[str | int, ...], other: Any) -> Mutation:
        return written(f"{place} = {other!r:.80}", changed(value, place, lambda _: other))

    def removed(place: tuple[str | int, ...]) -> Mutation:
        return written(f"without {place}", changed(value, place[:-1], lambda holder: _without(holder, place[-1])))

    def moved(place: tuple[str | int, ...], source: tuple[str | int, ...]) -> Mutation:
        other = value
        for key in source:
            other = other[key]
        return written(f"{place} = what {source} is", changed(value, place, lambda _: other))

    def added(place: tuple[str | int, ...], key: str, other: Any) -> Mutation:
        def with_key(holder: Any) -> Any:
            if isinstance(holder, dict):
                return {**holder, key: other}
            return [*holder, other] if isinstance(holder, list) else {key: holder}

        return written(f"{place} with {key!r}: {other!r:.80}", changed(value, place, with_key))

    ways = [
        st.builds(replaced, _one_of(everywhere), _SCALARS),
        st.builds(added, _one_of(everywhere), st.text(max_size=5) | _one_of(["key", "v2"]), VALUES),
    ]
    if inner:
        ways += [
            st.builds(replaced, _one_of(inner), VALUES),
            st.builds(removed, _one_of(inner)),
            st.builds(moved, _one_of(inner), _one_of(inner)),
        ]
    return st.one_of(ways)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _spoiled_bytes(good: bytes) -> st.SearchStrategy[Mutation]:
    where = st.integers(0, max(0, len(good) - 1))

    def cut(at: int) -> Mutation:
        return Mutation(f"cut at {at}", lambda path: _write(path, good[:at]))

    def flipped(at: int, bit: int) -> Mutation:
        spoiled = bytearray(good or b"\0")
        spoiled[at] ^= 1 << bit
        return Mutation(f"bit {bit} of byte {at}", lambda path: _write(path, bytes(spoiled)))

    def inserted(at: int, data: bytes) -> Mutation:
        return Mutation(f"{data[:40]!r} at {at}", lambda path: _write(path, good[:at] + data + good[at:]))

    def instead(data: bytes) -> Mutation:
        return Mutation(f"{data[:40]!r}", lambda path: _write(path, data))

    odd = _one_of(
        [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", b"[" * 200_000, b'{"a":' * 100_000, b"0" * 5000, b"1", b"&a *a"]
    )
    return st.one_of(
        st.builds(cut, where),
        st.builds(flipped, where, st.integers(0, 7)),
        st.builds(inserted, where, st.binary(max_size=12) | odd),
        st.builds(instead, st.binary(max_size=40) | odd),
    )


def _no_plain_file(outside: Path) -> st.SearchStrategy[Mutation]:
    def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
        def apply(path: Path) -> None:
            path.unlink()
            make(path)

        return apply

    return _one_of(
        [
            Mutation("missing", instead(lambda path: None)),
            Mutation("a folder", instead(lambda path: path.mkdir())),
            Mutation("a FIFO", instead(os.mkfifo)),
            Mutation("a link to itself", instead(lambda path: path.symlink_to(path.name))),
            Mutation("a link to nothing", instead(lambda path: path.symlink_to("nothing"))),
            Mutation("a link outside", instead(lambda path: path.symlink_to(outside))),
            Mutation("a device", instead(lambda path: path.symlink_to("/dev/zero"))),
        ]
    )
