"""Name a fault of a stage that a recipe has made by the recipe's own setting, as the user wrote that one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from espalier.config.base import Config
from espalier.config.faults import Fault, RefusedInput
from espalier.config.fields import child, settings_of
from espalier.jobs.recipe import RECIPES, stages_of
from espalier.jobs.stage import StageSettings, input_settings

if TYPE_CHECKING:
    from espalier.jobs.job import Job

_PART = re.compile(r"[^.\[\]]+|\[[0-9]+\]")
_ORIGINS = ("model", "from_scratch")  # the dials that bring a model into the job


@contextmanager
def faults_of_recipe(job: Job) -> Iterator[None]:
    """Name faults that are raised inside by the settings of the job's recipe; those of listed stages are left alone."""
    try:
        yield
    except RefusedInput as refused:
        if job.recipe is None:
            raise
        named = {str(fault): fault for fault in (of_recipe(fault, job) for fault in refused.faults)}
        raise RefusedInput(named.values()) from refused.__cause__


def of_recipe(fault: Fault, job: Job) -> Fault:
    """A fault of a stage, under the path of the dial that decides; any other fault unchanged."""
    found = _found(fault.path, job)
    if found is None:
        return fault
    if found.is_exact:
        return replace(fault, path=found.path)
    setting = f"whose {found.setting}" if found.setting else "which"
    return replace(fault, path=found.path, given=f"makes a stage {found.stage} {setting} {fault.found}")


def dial_path(path: str, job: Job) -> str:
    """The path in the job file of a stage's setting: that of the recipe's dial, where there is a recipe."""
    found = _found(path, job)
    return path if found is None else found.path


@dataclass(frozen=True)
class _Dial:
    """The dial that decides on a stage's setting; `is_exact`: it takes the setting's value itself."""

    path: str
    stage: str
    setting: str
    is_exact: bool


def _found(path: str, job: Job) -> _Dial | None:
    if job.recipe is None or not path.startswith("stages."):
        return None
    stages = {stage.name: stage for stage in stages_of(job)}
    below = path.removeprefix("stages.")
    name = max((one for one in stages if f"{below}.".startswith(f"{one}.")), key=len, default=None)
    if name is None:
        return None
    setting = below[len(name) + 1 :]
    first, *rest = _PART.findall(setting) or [""]
    if not first or first in input_settings(type(stages[name])):
        return _Dial(_origin(job.recipe), name, setting, is_exact=False)
    return _below(job.recipe, stages[name], first, rest)


def _below(dials: Config, stage: StageSettings, first: str, rest: list[str]) -> _Dial:
    """The dial of a setting, as deep as dial and setting have the same parts."""
    renamed = RECIPES[getattr(dials, "name", "")].renamed
    dial, setting = (
        renamed.get(f"{stage.name}.{first}", renamed.get(first, first)),
        "".join([first, *map(_dotted, rest)]),
    )
    if dial not in settings_of(type(dials)):
        return _Dial(_origin(dials) if first in _ORIGINS else "recipe", stage.name, setting, is_exact=False)
    path, annotation = f"recipe.{dial}", child(type(dials), dial)
    for part in rest:
        inside = _inside(annotation, part)
        if inside is None:
            return _Dial(path, stage.name, setting, is_exact=False)
        path, annotation = path + _dotted(part), inside
    return _Dial(path, stage.name, setting, is_exact=True)


def _inside(annotation: object, part: str) -> object | None:
    try:
        found: object | None = child(annotation, int(part[1:-1]) if part.startswith("[") else part)
    except (IndexError, TypeError):
        return None
    return found


def _dotted(part: str) -> str:
    return part if part.startswith("[") else f".{part}"


def _origin(dials: Config) -> str:
    """The dial that the job's model comes from."""
    there = settings_of(type(dials))
    return next((f"recipe.{name}" for name in _ORIGINS if name in there), "recipe")
