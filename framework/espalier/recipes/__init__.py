"""Recipes turn a few dials into the stages of a plan."""

from __future__ import annotations

from espalier.config.job import Job
from espalier.config.stages import StageConfig
from espalier.recipes import prune_then_distill


def stages_of(job: Job) -> tuple[StageConfig, ...]:
    """The stages of a job: those it lists, or those its recipe makes."""
    return job.stages if job.recipe is None else prune_then_distill.stages(job.recipe)
