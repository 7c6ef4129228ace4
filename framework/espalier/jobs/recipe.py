"""Recipes: they make the stages of a plan from a few settings (dials)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from espalier.config.base import Config
from espalier.config.explain import faults_below
from espalier.config.faults import RefusedInput
from espalier.config.plugins import Registry
from espalier.jobs.stage import StageSettings

if TYPE_CHECKING:
    from espalier.jobs.job import Job


@dataclass(frozen=True)
class Recipe:
    """One recipe.

    Attributes:
        name: `name` in the job file.
        dials: its settings, with a literal `name`.
        stages: (dials, sequence_tokens of the job's data) -> the stages.
        renamed: setting of the stages, or `stage.setting` -> the dial that decides on it, where that has another name.
    """

    name: str
    dials: type[Config]
    stages: Callable[[Any, int], tuple[StageSettings, ...]]
    renamed: Mapping[str, str] = field(default_factory=dict)


RECIPES: Registry[Recipe] = Registry(
    "espalier.recipes",
    Recipe,
    {
        name: f"espalier.recipes.{name}:RECIPE"
        for name in ("prune_then_distill", "progressive_growth", "self_correction")
    },
)
"""Every recipe that is installed."""


def stages_of(job: Job) -> tuple[StageSettings, ...]:
    """The stages of a job: listed, or made by its recipe.

    Raises:
        RefusedInput: settings from which the recipe makes an invalid stage.
    """
    if job.recipe is None:
        return job.stages
    try:
        return RECIPES[job.recipe.name].stages(job.recipe, job.data.sequence_tokens)
    except ValidationError as error:
        raise RefusedInput(faults_below("recipe", error)) from None
