"""What two sets of settings of one stage differ in, and whether the difference changes what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from espalier.jobs.stage import StageSettings


@dataclass(frozen=True)
class Change:
    """One setting that is not what it was. Values are JSON; None where there is no such setting.

    Attributes:
        alters_result: False when only the way to the same result changes.
    """

    path: str
    old: Any
    new: Any
    alters_result: bool


def stage_changes(old: StageSettings, new: StageSettings) -> Iterator[Change]:
    """The settings in which `new` differs, each by itself; lists count as one."""
    what = {setting for config in (old, new) for setting, _ in _leaves(config.result_settings())}
    dumps = (config.model_dump(mode="json") for config in (old, new))
    for setting, before, after in value_changes(*dumps):
        yield Change(f"stages.{new.name}.{setting}", before, after, setting in what)


def value_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Path, old and new value of each leaf that differs; None stands for a leaf that is not there."""
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
