"""Look up a setting in the pydantic models: its type by its path, and the values it takes in words."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from espalier.config.base import Config, Words


def settings_of(annotation: Any) -> dict[str, FieldInfo]:
    """The fields of a settings class; empty for a plain value."""
    kind = options(annotation)[0]
    return kind.model_fields if isinstance(kind, type) and issubclass(kind, Config) else {}


def child(annotation: Any, key: str | int) -> Any:
    """The type of a setting, or of an item of a list; None where the model has no such setting."""
    if isinstance(key, int):
        inside = get_args(options(annotation)[0])
        return inside[0] if inside[-1] is Ellipsis else inside[key]
    if get_origin(options(annotation)[0]) is dict:
        return get_args(options(annotation)[0])[1]
    field = settings_of(annotation).get(key)
    return field.rebuild_annotation() if field else None


@dataclass(frozen=True)
class Tag:
    """The discriminator of a settings class: `kind: distill`, `name: self_correction`, `function: jsd`, `format: x`."""

    setting: str
    value: str


def tag_of(kind: Any) -> Tag | None:
    """The tag of a settings class; None without one, and for plain values."""
    for setting in ("kind", "name", "function", "format"):
        field = settings_of(kind).get(setting)
        if field is not None and get_origin(field.annotation) is Literal:
            return Tag(setting, get_args(field.annotation)[0])
    return None


def variants(annotation: Any) -> dict[str, Any]:
    """Tag -> settings class of a union; empty for other types."""
    kind, _ = _bare(annotation)
    if get_origin(kind) not in (Union, types.UnionType):
        return {}
    return {variant_name(option): option for option in options(kind) if settings_of(option)}


def variant_name(kind: Any) -> str:
    """The name of a settings class in a union: the value of its tag; without one the name of the class."""
    tag = tag_of(kind)
    return tag.value if tag else str(kind.__name__)


def options(annotation: Any) -> list[Any]:
    """The members of a union without None and marks; a list of one for other types."""
    kind, _ = _bare(annotation)
    if get_origin(kind) not in (Union, types.UnionType):
        return [kind]
    return [_bare(option)[0] for option in get_args(kind) if option is not type(None)]


def marks_of(annotation: Any) -> list[Any]:
    """The marks of a type, and of the members of a union."""
    kind, marks = _bare(annotation)
    inside = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()
    return [*marks, *(mark for option in inside for mark in marks_of(option))]


def words(annotation: Any) -> str:
    """The allowed values of a setting in words, as `a number above 0`."""
    kind, marks = _bare(annotation)
    if get_origin(kind) in (Union, types.UnionType):
        return _choice(kind)
    bounds = " and ".join(_bounds(marks))
    note = next((mark.text for mark in reversed(marks) if isinstance(mark, Words)), "")
    return ", ".join(filter(None, (f"{_plain(kind)} {bounds}".rstrip(), note)))


def _choice(kind: Any) -> str:
    tags = [tag for option in variants(kind).values() if (tag := tag_of(option))]
    if len(tags) > 2:
        return f"settings with one {tags[0].setting} of {', '.join(tag.value for tag in tags)}"
    return " or ".join(words(option) for option in get_args(kind) if option is not type(None))


def _plain(kind: Any) -> str:
    if get_origin(kind) is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        return f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
    if get_origin(kind) is tuple:
        inside = get_args(kind)
        size = "" if inside[-1] is Ellipsis else f" of {len(inside)}"
        return f"a list{size}, each {words(inside[0])}"
    if get_origin(kind) is dict:
        return "settings, each under a name"
    if settings := settings_of(kind):
        return f"settings: {', '.join(settings)}"
    if isinstance(kind, type) and issubclass(kind, Config):
        return "{}, as it has no settings"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]


def _bounds(marks: list[Any]) -> Iterator[str]:
    """The tightest lower and upper bounds in words; lengths for text and lists."""
    below = [(getattr(mark, name), word) for mark in marks for name, word in _LOWER if hasattr(mark, name)]
    above = [(getattr(mark, name), word) for mark in marks for name, word in _UPPER if hasattr(mark, name)]
    for bound, word in (*sorted(below)[-1:], *sorted(above)[:1]):
        yield f"{word} {bound:g}"
    if any(getattr(mark, "min_length", 0) for mark in marks):
        yield "that is not empty"


_LOWER = (("gt", "above"), ("ge", "at least"))
_UPPER = (("lt", "below"), ("le", "at most"))


def _bare(annotation: Any) -> tuple[Any, list[Any]]:
    """A type without its marks, and the marks."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    kind, *marks = get_args(annotation)
    return kind, [one for mark in marks for one in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
