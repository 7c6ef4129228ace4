"""Checks of `from_scratch` by the model family that it names.

Families are declared in `espalier.models.families`. Its registry is looked up by name when a job is read, so that this
room does not import it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from espalier.config.faults import Fault, nearest
from espalier.config.plugins import Registry, load_reference

if TYPE_CHECKING:
    from espalier.config.growth import FromScratch

_REGISTRY = "espalier.models.families.registry:FAMILIES"


class ScratchRules(Protocol):
    """See `espalier.models.families.family.ScratchConfig`."""

    def faults(self, settings: FromScratch) -> Iterable[Fault]: ...


class ScratchFamilyNames:
    """Mark of a setting that names a family; the JSON schema lists the installed ones."""

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core_schema), "enum": list(scratch_families())}


def scratch_families() -> Mapping[str, ScratchRules]:
    """Installed families that can begin with random weights, by name."""
    registry: Registry[Any] = load_reference(_REGISTRY)
    return {name: registry[name].scratch for name in registry if registry[name].scratch is not None}


def scratch_faults(settings: FromScratch) -> Iterable[Fault]:
    """Faults of the family's name, and of settings that the family does not have."""
    families = scratch_families()
    if settings.family in families:
        return families[settings.family].faults(settings)
    broken = load_reference(_REGISTRY).broken.get(settings.family)
    allowed = f"one of {', '.join(families)}" + (f"; {broken}" if broken else "")
    return [Fault("family", settings.family, allowed, nearest(settings.family, families))]
