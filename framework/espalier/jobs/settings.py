"""List every setting of a part of the job with its type, default and explanation, for people who write job files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from espalier.config.base import Config
from espalier.config.fields import options, settings_of, tag_of, words
from espalier.config.formats import FORMATS
from espalier.config.losses import LOSSES
from espalier.jobs.job import Job
from espalier.jobs.kind import KINDS
from espalier.jobs.recipe import RECIPES

_OF_THEIR_OWN = ("data", "data_sets", "recipe", "stages")
"""Settings of the job that are topics themselves."""


@dataclass(frozen=True)
class Setting:
    """The description of one setting.

    Attributes:
        path: relative to its part: `optimizer.lr`, `losses[].weight`.
        default: as in a job file; None if the setting is required.
        allowed: allowed values in words.
        text: its docstring; may be empty.
    """

    path: str
    default: str | None
    allowed: str
    text: str


def topics() -> dict[str, type[Config]]:
    """The parts of a job that can be asked about: its own settings, kinds of data, kinds of stage, recipes, losses."""
    kinds = {kind.name: kind.settings for kind in KINDS.values()}
    recipes = {recipe.name: recipe.dials for recipe in RECIPES.values()}
    losses = {loss.name: loss.settings for loss in LOSSES.values()}
    formats = {"data" if one.marked_by is None else f"{one.name}_data": one.settings for one in FORMATS.values()}
    return {"job": Job, **formats, **kinds, **recipes, **losses}


def summary(part: type[Config]) -> str:
    """The first paragraph of a part's docstring."""
    return _paragraph((part.__doc__ or "").strip().split("\n\n")[0])


def settings(part: type[Config], *, before: str = "") -> Iterator[Setting]:
    """Yield every setting of a part, nested ones after their parent; `before` is prepended to paths."""
    for name, field in part.model_fields.items():
        annotation = field.rebuild_annotation()
        is_tag = field.is_required() and get_origin(annotation) is Literal and len(get_args(annotation)) == 1
        if is_tag and name != "format":
            continue  # the topic itself: the kind of a stage or the name of a recipe
        parts = _parts(annotation)
        is_topic = part is Job and name in _OF_THEIR_OWN
        text = field.description or (summary(parts[0]) if len(parts) == 1 and not is_topic else "")
        allowed = "settings" if parts else words(annotation)
        yield Setting(f"{before}{name}", _default(field), allowed, _paragraph(text))
        if not is_topic:
            yield from _inside(parts, before=f"{before}{name}{'[]' if _is_list(annotation) else ''}.")


def _inside(parts: list[type[Config]], *, before: str) -> Iterator[Setting]:
    """Yield the settings of all members of a union, each path once, after their discriminator."""
    if len(tags := [tag for part in parts if (tag := tag_of(part))]) > 1:
        yield Setting(f"{before}{tags[0].setting}", None, f"one of {', '.join(tag.value for tag in tags)}", "")
    found: dict[str, Setting] = {}
    for part in parts:
        for setting in settings(part, before=before):
            found.setdefault(setting.path, setting)
    yield from found.values()


def _parts(annotation: Any) -> list[type[Config]]:
    """The settings classes of a type, or of the items of its lists."""
    found = [one for option in options(annotation) for one in _items(option)]
    return [option for option in found if settings_of(option)]


def _items(kind: Any) -> list[Any]:
    return options(get_args(kind)[0]) if get_origin(kind) is tuple else [kind]


def _is_list(annotation: Any) -> bool:
    return get_origin(options(annotation)[0]) is tuple


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    return json.dumps(_written(field.get_default(call_default_factory=True)), ensure_ascii=False)


def _written(value: Any) -> Any:
    """The value as in a job file; of nested settings only those that were set."""
    if isinstance(value, Config):
        return value.model_dump(mode="json", exclude_unset=True)
    return [_written(one) for one in value] if isinstance(value, tuple) else value


def _paragraph(text: str) -> str:
    return " ".join(text.split())
