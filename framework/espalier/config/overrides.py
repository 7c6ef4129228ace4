"""Overrides on the command line: `a.b=value` replaces a setting of the job file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from espalier.config.base import NAME
from espalier.config.document import Document, Keys, parse
from espalier.config.faults import Fault, RefusedInput, nearest

_KEY = re.compile(r"[^.\[\]]+")
_POSITION = re.compile(r"\[([0-9]{1,6})\]")


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """Apply overrides in order. Items of lists are given by position (`stages[2].`) or by name (`stages.heal.`).

    Args:
        document: of a job file; not changed.
        overrides: `path=value`, the value written as in YAML (`[1, 2]`, `{max: 2}`, `1e-4`; none for null).

    Raises:
        RefusedInput: overrides that are no `path=value`, or that lead nowhere; all at once. Unknown
            settings are not refused here, but with the rest of the job.
    """
    faults: list[Fault] = []
    for override in overrides:
        try:
            document = _apply(document, override)
        except RefusedInput as refused:
            faults.extend(refused.faults)
    if faults:
        raise RefusedInput(faults)
    return document


def _apply(document: Document, override: str) -> Document:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RefusedInput([Fault("override", override, "setting=value, as in seed=17")])
    value = parse(text, origin=override).values
    keys = _keys(path, document.values)
    lines = {at: line for at, line in document.lines.items() if at[: len(keys)] != keys}
    return Document(_replaced(document.values, keys, value), {**lines, keys: None})


def _keys(path: str, values: Any) -> Keys:
    keys: list[str | int] = []
    rest = path
    while rest or not keys:
        key, rest = _first(rest, values, path)
        keys.append(key)
        values = values.get(key) if isinstance(values, dict) else values[key] if values is not None else None
        if keys == ["stages"] and rest and not isinstance(values, list):
            allowed = "a setting of this job; it lists no stages, change the recipe's dials (recipe.…)"
            raise RefusedInput([Fault(path, None, allowed, given="leads nowhere")])
    return tuple(keys)


def _first(rest: str, values: Any, path: str) -> tuple[str | int, str]:
    """Split the first key off `rest`; `values` is what it refers into."""
    if isinstance(values, list):
        return _item(rest, values, path)
    written = _KEY.match(rest)
    if not isinstance(values, dict | None) or not written:
        allowed = "settings joined by dots, items of lists as [0]; a plain value has none inside"
        raise RefusedInput([Fault(path, None, allowed, given="leads nowhere")])
    return written[0], _after(rest, written.end(), path)


def _item(rest: str, values: list[Any], path: str) -> tuple[int, str]:
    if written := _POSITION.match(rest):
        if int(written[1]) < len(values):
            return int(written[1]), _after(rest, written.end(), path)
        allowed = f"positions [0] to [{len(values) - 1}]"
        raise RefusedInput([Fault(path, None, allowed, given="leads past the end of the list")])
    names = {item["name"]: i for i, item in enumerate(values) if isinstance(item, dict) and _named(item)}
    for name in sorted(names, key=len, reverse=True):  # names may contain dots: the longest match is meant
        if rest == name or rest.startswith(f"{name}."):
            return names[name], _after(rest, len(name), path)
    word = rest.split(".")[0]
    allowed = f"one of {', '.join(names)}" if names else "positions in brackets, as [0]"
    raise RefusedInput([Fault(path, None, allowed, nearest(word, names), given=f"names no item {word!r}")])


def _named(item: dict[str, Any]) -> bool:
    return isinstance(item.get("name"), str) and NAME.fullmatch(item["name"]) is not None


def _after(rest: str, end: int, path: str) -> str:
    """The rest of the path after a key, without a leading dot."""
    tail = rest[end:]
    if tail in (".", "]") or (tail and tail[0] not in ".["):
        raise RefusedInput([Fault(path, None, "settings joined by dots, items as [0]", given="is no path")])
    return tail.removeprefix(".")


def _replaced(values: Any, keys: Keys, value: Any) -> Any:
    """A copy of `values` with one value replaced; values that aliases share are not changed elsewhere."""
    if not keys:
        return value
    key, *rest = keys
    if isinstance(values, list):
        return [_replaced(item, tuple(rest), value) if i == key else item for i, item in enumerate(values)]
    inside = values or {}
    return {**inside, key: _replaced(inside.get(key), tuple(rest), value)}
