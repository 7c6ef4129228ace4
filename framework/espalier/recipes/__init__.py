"""Recipes turn a few dials into the stages of a plan."""

from __future__ import annotations

from pydantic import ValidationError

from espalier.config.explain import faults_below
from espalier.config.faults import RefusedInput
from espalier.config.job import Job
from espalier.config.recipes import ProgressiveGrowth, SelfCorrection
from espalier.config.stages import StageConfig
from espalier.recipes import progressive_growth, prune_then_distill, self_correction


def stages_of(job: Job) -> tuple[StageConfig, ...]:
    """The stages of a job: those it lists, or those its recipe makes.

    Raises:
        RefusedInput: dials that make a stage which cannot be.
    """
    try:
        return job.stages if job.recipe is None else _made(job)
    except ValidationError as error:
        raise RefusedInput(faults_below("recipe", error)) from None


def _made(job: Job) -> tuple[StageConfig, ...]:
    if isinstance(job.recipe, SelfCorrection):
        return self_correction.stages(job.recipe)
    if isinstance(job.recipe, ProgressiveGrowth):
        return progressive_growth.stages(job.recipe, sequence_tokens=job.data.sequence_tokens)
    return prune_then_distill.stages(job.recipe)
