"""The base class of all settings (frozen, strict, no unknown keys), and marks and types of fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from espalier.config.faults import Fault, RefusedInput

_UNITS = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}
_LEAST, _MOST = 1e-30, 1e30
LONGEST_NAME = 64
NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_COUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,12})?)([kKMGBT])")


class Config(BaseModel):
    """Base of all parts of a job file. Immutable; wrong types and unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_former_names(cls, values: Any, info: ValidationInfo) -> Any:
        """Move settings that are given under a former name to the name of today.

        Each former name that is met is noted in the dict `former_names` of the validation context, if there is one.
        """
        renamed = former_names(cls)
        if not isinstance(values, dict) or renamed.keys().isdisjoint(values):
            return values
        met = {old: new for old, new in renamed.items() if old in values}
        if isinstance(info.context, dict):
            info.context.get("former_names", {}).update(met)
        if faults := list(_given_twice(met, values)):
            raise RefusedInput(faults)
        return {met.get(name, name): value for name, value in values.items()}

    @field_validator("*", mode="after")
    @classmethod
    def _is_no_lost_number(cls, value: Any) -> Any:
        """Refuse numbers that are 0 or infinite in float32."""
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and number and not _LEAST <= abs(number) <= _MOST:
                raise ValueError(f"0, or a size from {_LEAST:g} to {_MOST:g}, within what float32 holds")
        return value


def _given_twice(met: dict[str, str], values: dict[str, Any]) -> Iterator[Fault]:
    for old, new in met.items():
        if new in values:
            yield Fault(old, values[old], f"leave it out; it is the former name of {new}, which is given, too")


class Record(BaseModel):
    """Base of the schemas of a run's small files. Unknown keys, as of newer versions, are ignored."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True
    )


@dataclass(frozen=True)
class Words:
    """Mark of a field: words about its values for error messages and help."""

    text: str


@dataclass(frozen=True)
class FormerName:
    """Mark of a field that was renamed: job files may still use the former name, and keys of stages go on using it."""

    name: str


@cache
def former_names(settings: type[BaseModel]) -> dict[str, str]:
    """Former name -> name, of all settings of a class that were renamed."""
    fields = settings.model_fields.items()
    return {mark.name: name for name, field in fields for mark in field.metadata if isinstance(mark, FormerName)}


class Mark(Enum):
    """Marks of a field that say how it counts in a stage's key."""

    EXECUTION = "execution"
    ADDED_LATER = "added later"


EXECUTION = Mark.EXECUTION
"""The setting does not change results, only how they are computed; a run goes on when it changes."""
ADDED_LATER = Mark.ADDED_LATER
"""The setting is left out of the key at its default, so that runs of earlier versions go on."""


def parse_count(value: Any) -> Any:
    """Read `95M`, `1.5B`, `200k` and whole floats such as `1e4` as an int; leave the rest for pydantic to judge."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    written = _COUNT.fullmatch(value) if isinstance(value, str) else None
    if written is None:
        return value
    count = Decimal(written[1]) * _UNITS[written[2]]
    return int(count) if count == int(count) else value


def parse_tuple(value: Any) -> Any:
    """Convert a list of YAML to a tuple, as settings are immutable."""
    return tuple(value) if isinstance(value, list) else value


def foreign(config: Config, setting: str, *, owner: str) -> list[Fault]:
    """The fault of a setting that is not at its default although only `owner` reads it."""
    value = getattr(config, setting)
    if value == type(config).model_fields[setting].default:
        return []
    return [Fault(setting, value, f"leave it out; only {owner} reads it")]


Count = Annotated[
    int,
    BeforeValidator(parse_count),
    Field(gt=0, le=10**15),
    Words("also written 95M, 1.5B or 200k"),
    WithJsonSchema({"type": ["integer", "string"], "exclusiveMinimum": 0, "pattern": r"^[0-9.]+[kKMGBT]$"}),
]
"""A positive whole number, also written `95M`, `1.5B`, `200k`."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A part of a whole, 0 to 1."""

Temperature = Annotated[float, Field(ge=0.01, le=100.0)]
"""The divisor of logits in a softmax."""

Name = Annotated[
    str,
    Field(pattern=f"^{NAME.pattern}$"),
    Words(f"at most {LONGEST_NAME} lower-case letters, digits, dots, dashes or underscores, a letter or digit first"),
]
"""A name that is also used for a folder."""
