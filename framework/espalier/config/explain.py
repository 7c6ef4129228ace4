"""Turn pydantic's validation errors into faults with path, line and remedy."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from espalier.config.base import NAME, Name, parse_count
from espalier.config.document import Document, Keys
from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.config.fields import child, options, settings_of, variants, words

_OFF = ("none", "false", "no", "disabled")


def faults_of(error: ValidationError, document: Document, root: Any) -> list[Fault]:
    """One fault for each validation error of the model `root`, with its line in the file if it has one."""
    names = _own_names(document.values)
    lines = {_path(keys, names): line for keys, line in document.lines.items()}
    faults = [fault for item in error.errors() for fault in _faults(item, names, root)]
    return [replace(fault, line=_line(fault.path, lines)) for fault in faults]


def faults_below(path: str, error: ValidationError) -> list[Fault]:
    """The faults of stages that were made from the settings at `path`, as by a recipe."""
    return [fault for item in error.errors() for fault in _faults_at(_path((path, *item["loc"]), {}), item)]


def _faults_at(path: str, item: Any) -> Iterator[Fault]:
    if item["type"] == "value_error":
        yield from _raised(path, item["input"], item["ctx"]["error"])
    else:
        yield Fault(path, item["input"], item["msg"])


def _own_names(values: dict[str, Any]) -> dict[int, str]:
    """Position -> name of the stages that have a valid and unique name."""
    stages = values.get("stages")
    named = enumerate(stages if isinstance(stages, list) else [])
    names = {i: stage.get("name") for i, stage in named if isinstance(stage, dict)}
    right = {i: name for i, name in names.items() if isinstance(name, str) and NAME.fullmatch(name)}
    times = Counter(right.values())
    return {i: name for i, name in right.items() if times[name] == 1}


def _path(keys: Keys, names: dict[int, str]) -> str:
    """Keys as a path: `stages.heal.lr`; `stages[2].lr` for a stage without a unique name."""
    path = ""
    for depth, key in enumerate(keys):
        name = names.get(key) if depth == 1 and keys[0] == "stages" and isinstance(key, int) else None
        if isinstance(key, int) and name is None:
            path += f"[{key}]"
        else:
            path += ("." if path else "") + (name or str(key))[:64]
    return path


def _faults(item: Any, names: dict[int, str], root: Any) -> Iterator[Fault]:
    keys, annotation = _place(item["loc"], root)
    path, value = _path(keys, names), item["input"]
    match item["type"]:
        case "missing":
            yield Fault(path, None, words(annotation))
        case "extra_forbidden":
            known = settings_of(_place(item["loc"][:-1], root)[1])
            near = _setting_meant(str(keys[-1]), known)
            yield Fault(path, value, ", ".join(known), near, given="is no setting here")
        case "union_tag_invalid" | "union_tag_not_found":
            yield _variant_fault(path, value, annotation, item["ctx"]["discriminator"].strip("'"))
        case "value_error":
            yield from _raised(path, value, item["ctx"]["error"])
        case _:
            near = _whole(value) if item["type"].startswith("int_") else _choice_meant(value, annotation)
            yield Fault(path, value, words(annotation), near, given=_empty(value))


def _place(location: tuple[str | int, ...], root: Any) -> tuple[Keys, Any]:
    """The keys and the type at a pydantic location, which also has the names of union members between keys."""
    keys: list[str | int] = []
    annotation = root
    for key in location:
        if key == "[key]":  # pydantic's mark of an invalid mapping key, after the key
            annotation = Name
            continue
        if isinstance(key, str) and (chosen := variants(annotation).get(key)):
            annotation = chosen
            continue
        keys.append(key)
        annotation = child(annotation, key)
    return tuple(keys), annotation


def _variant_fault(path: str, value: Any, annotation: Any, setting: str) -> Fault:
    tags = list(variants(annotation))
    given = value.get(setting)
    near = nearest(given, tags) if isinstance(given, str) else None
    return Fault(f"{path}.{setting}", given, f"one of {', '.join(tags)}" if len(tags) > 1 else tags[0], near)


def _raised(path: str, value: Any, error: Exception) -> Iterator[Fault]:
    """Faults raised by our validators, whose paths are relative to their model."""
    if not isinstance(error, RefusedInput):
        yield Fault(path, value, str(error))
        return
    for fault in error.faults:
        yield replace(fault, path=f"{path}.{fault.path}" if path else fault.path)


def _setting_meant(word: str, known: dict[str, Any]) -> str | None:
    """A setting with a similar name, or the same name one level deeper (`lr` for `optimizer.lr`)."""
    deeper = (name for name, field in known.items() if word in settings_of(field.rebuild_annotation()))
    name = next(deeper, None)
    return f"{name}.{word}" if name else nearest(word, known)


def _choice_meant(value: Any, annotation: Any) -> str | None:
    literals = [kind for kind in options(annotation) if get_origin(kind) is Literal]
    choices = [str(choice) for kind in literals for choice in get_args(kind)]
    if "off" in choices and str(value).lower() in _OFF:
        return "off"
    return nearest(value, choices) if isinstance(value, str) else None


def _whole(value: Any) -> str | None:
    """The whole number that `1e4`, `17.0`, `10K` or `'17'` mean."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,15}", value):
        return value
    count = parse_count(value)
    return str(count) if isinstance(count, int) and not isinstance(value, int) else None


def _empty(value: Any) -> str | None:
    return "is empty" if value is None else None


def _line(path: str, lines: dict[str, int | None]) -> int | None:
    """The line of a setting, or of the nearest enclosing one that is in the file."""
    while path and path not in lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return lines.get(path)
