"""Recipe `focal_tuning`: train a published model by focal loss and export it."""

from __future__ import annotations

from typing import Literal

from espalier.config.base import Config
from espalier.config.paths import ModelSource
from espalier.config.training import BatchConfig, BudgetConfig, OptimizerConfig
from espalier.jobs.recipe import Recipe
from espalier.jobs.stage import StageSettings
from espalier.kinds.export.kind import ExportStage
from espalier.kinds.load.kind import LoadStage
from espalier_focal.kind import FocalStage


class FocalTuning(Config):
    """Dials of `focal_tuning`."""

    name: Literal["focal_tuning"]
    model: ModelSource
    budget: BudgetConfig
    batch: BatchConfig
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4)


def stages(dials: FocalTuning, sequence_tokens: int) -> tuple[StageSettings, ...]:
    """parent -> focal -> exported."""
    trained = {"budget": dials.budget, "batch": dials.batch, "optimizer": dials.optimizer}
    return (
        LoadStage(name="parent", kind="load", model=dials.model),
        FocalStage(name="focal", kind="focal", student="parent", **trained),
        ExportStage(name="exported", kind="export", model="focal"),
    )


RECIPE = Recipe("focal_tuning", FocalTuning, stages)
