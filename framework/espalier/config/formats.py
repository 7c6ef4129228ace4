"""The registry of data formats, the union of their settings, and the format of a `data` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import BeforeValidator, Discriminator, Tag

from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.config.fields import variant_name
from espalier.config.format import DataFormat, DataSettings, ShownData
from espalier.config.plugins import Registry

_FORMATS = "espalier.formats"
_UNMARKED = "text"
"""The format of a section without any mark."""
FORMATS: Registry[DataFormat] = Registry(
    "espalier.formats",
    DataFormat,
    {_UNMARKED: f"{_FORMATS}.text.format:FORMAT", "labelled": f"{_FORMATS}.labelled.format:FORMAT"},
)
"""Every data format that is installed."""


def name_of(section: Mapping[str, Any]) -> str:
    """The name of a section's format: its `format`, or that of the built-in format by whose key it is marked."""
    if "format" in section:
        return str(section["format"])
    return next((name for name in FORMATS.built_in if FORMATS[name].marked_by in section), _UNMARKED)


def format_of(data: DataSettings) -> DataFormat:
    """The declaration of the format that data has."""
    return next(declared for declared in FORMATS.values() if declared.settings is type(data))


def shown_data(section: Mapping[str, Any]) -> ShownData:
    """How the report shows a data section of a run's job; as text, if its format is not installed here."""
    name = name_of(section)
    return FORMATS[name].shown(section) if name in FORMATS else ShownData()


def _refuse_unknown(section: Any) -> Any:
    """Refuse the name of a format that is not installed, or that no section has to give."""
    if not isinstance(section, dict) or "format" not in section:
        return section
    given, known = section["format"], [one.name for one in FORMATS.values() if one.marked_by == "format"]
    if given in known:
        return section
    names = f"one of {', '.join(known)}, or leave it out" if known else "leave it out"
    allowed = f"{names}: data with `task` is labelled, other data is text"
    if isinstance(given, str) and given in FORMATS.broken:
        allowed += f"; {FORMATS.broken[given]}"
    raise RefusedInput([Fault("format", given, allowed, nearest(given, known) if isinstance(given, str) else None)])


def _variant(value: Any) -> str:
    if isinstance(value, dict):
        return variant_name(FORMATS[name_of(value)].settings)
    return variant_name(type(value) if isinstance(value, DataSettings) else FORMATS[_UNMARKED].settings)


if TYPE_CHECKING:  # the union depends on the installed packages
    AnyData = DataSettings
else:
    _VARIANTS = tuple(Annotated[one.settings, Tag(variant_name(one.settings))] for one in FORMATS.values())
    AnyData = Annotated[
        Annotated[Union[_VARIANTS], Discriminator(_variant)],  # noqa: UP007
        BeforeValidator(_refuse_unknown),
    ]
    """Data of any format that is installed: text without a mark; with `task` samples with labels."""
