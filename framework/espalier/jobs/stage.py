"""The base of all stage settings, and marks of their fields."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal

from pydantic.fields import FieldInfo

from espalier.config.base import ADDED_LATER, EXECUTION, Config, Name, former_names
from espalier.config.fields import marks_of, options, settings_of
from espalier.config.paths import IS_FILE

Yield = Literal["model", "answers", "scores"]
"""What other stages can take from a stage: a model, predictions on the training samples, importance scores."""


@dataclass(frozen=True)
class TakesFrom:
    """Mark of a setting that names one earlier stage, or a list of them.

    Attributes:
        yields: at least one of these has to be among the earlier stage's.
    """

    yields: tuple[Yield, ...] = ("model",)


ModelInput = Annotated[Name, TakesFrom()]
"""The name of a stage that makes a model."""


class StageSettings(Config):
    """The settings of a stage. A kind's own class adds a literal `kind`, its inputs and whatever it needs.

    The first setting marked with `TakesFrom` names the stage whose model this one starts from.
    """

    name: Name
    kind: str
    data: Annotated[Name | None, EXECUTION] = None
    """Which of `data_sets` the stage works on; the job's `data` when left out."""

    def inputs(self) -> dict[str, str]:
        """Setting -> name of the stage that it refers to; items of lists as `against[0]`."""
        found: dict[str, str] = {}
        for setting in input_settings(type(self)):
            value = getattr(self, setting)
            if isinstance(value, tuple):
                found |= {f"{setting}[{place}]": name for place, name in enumerate(value)}
            elif value is not None:
                found[setting] = value
        return found

    def result_settings(self) -> dict[str, Any]:
        """The settings that change results, as JSON values."""
        settings = self.model_dump(mode="json", exclude=execution_settings(type(self)))
        return {name: value for name, value in settings.items() if not self._is_later_default(name)}

    def key_settings(self) -> dict[str, Any]:
        """`result_settings` for the stage's key, with renamed settings under their former names."""
        return _under_former_names(self, self.result_settings())

    def _is_later_default(self, name: str) -> bool:
        field = type(self).model_fields[name]
        return ADDED_LATER in field.metadata and getattr(self, name) == field.default


def _under_former_names(settings: Config, dumped: dict[str, Any]) -> dict[str, Any]:
    """`dumped`, which is a dump of `settings`, with each renamed setting under its former name."""
    names = {new: old for old, new in former_names(type(settings)).items()}
    renamed: dict[str, Any] = {}
    for name, value in dumped.items():
        inside = getattr(settings, name, None)
        if isinstance(inside, Config) and isinstance(value, dict):
            value = _under_former_names(inside, value)
        renamed[names.get(name, name)] = value
    return renamed


def named_files(settings: Config, *, before: str = "") -> dict[str, str]:
    """Setting -> file, for all settings that name a file, sorted by setting."""
    found: dict[str, str] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Config):
            found |= named_files(value, before=f"{before}{name}.")
        elif value is not None and IS_FILE in marks_of(field.rebuild_annotation()):
            found[f"{before}{name}"] = value
    return dict(sorted(found.items()))


@cache
def input_settings(settings: type[StageSettings]) -> dict[str, TakesFrom]:
    """The settings of a kind that name earlier stages, with their marks."""
    marks = {name: _marks(field) for name, field in settings.model_fields.items()}
    return {name: mark for name, found in marks.items() for mark in found if isinstance(mark, TakesFrom)}


@cache
def execution_settings(settings: type[Config]) -> dict[str, Any]:
    """The settings marked EXECUTION, for pydantic's `exclude`."""
    found: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        if EXECUTION in field.metadata:
            found[name] = True
        elif settings_of(field.annotation):
            inside = execution_settings(options(field.annotation)[0])
            found |= {name: inside} if inside else {}
    return found


def _marks(field: FieldInfo) -> list[Any]:
    return field.metadata
