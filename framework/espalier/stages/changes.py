"""Compare two sets of settings of one stage, and tell which differences change its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from espalier.jobs.stage import StageSettings


@dataclass(frozen=True)
class Change:
    """One changed setting. Values are JSON; None when the setting does not exist.

    Attributes:
        alters_result: False when the setting only affects how the same result is computed.
    """

    path: str
    old: Any
    new: Any
    alters_result: bool


def stage_changes(old: StageSettings, new: StageSettings) -> Iterator[Change]:
    """The settings in which `new` differs from `old`, one by one; a list counts as one value."""
    what = {setting for config in (old, new) for setting, _ in _leaves(config.result_settings())}
    dumps = (config.model_dump(mode="json") for config in (old, new))
    for setting, before, after in value_changes(*dumps):
        yield Change(f"stages.{new.name}.{setting}", before, after, setting in what)


def value_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(path, old value, new value) of each leaf that differs; None for a missing leaf."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    for path in dict.fromkeys([*before, *after]):
        if before.get(path) != after.get(path):
            yield path, before.get(path), after.get(path)


def _leaves(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, one in value.items():
        if isinstance(one, Mapping):
            yield from _leaves(one, f"{path}{name}.")
        else:
            yield f"{path}{name}", one
