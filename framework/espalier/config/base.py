"""What every part of a job file has in common: frozen, strict, no unknown keys."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "T": 10**12}


class Config(BaseModel):
    """A part of the job file. Immutable; a wrong type or an unknown key is a fault, never a guess."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def parse_count(value: Any) -> Any:
    """Read `95M`, `1.5B` or `200k` as an int; leave anything else for pydantic to judge."""
    if isinstance(value, str) and value[-1:] in _UNITS:
        try:
            count = float(value[:-1]) * _UNITS[value[-1]]
        except ValueError:
            return value
        if count == int(count):
            return int(count)
    return value


def parse_tuple(value: Any) -> Any:
    """YAML knows lists only; the job keeps tuples because it is frozen."""
    return tuple(value) if isinstance(value, list) else value


Count = Annotated[int, BeforeValidator(parse_count), Field(gt=0)]
"""A positive whole number, also written `95M`, `1.5B`, `200k`."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A part of a whole, 0 to 1."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
"""A name that is also a folder: lower-case letters, digits, dot, dash, underscore."""
