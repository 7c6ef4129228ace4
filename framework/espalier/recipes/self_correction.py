"""Recipe `self_correction`: fine-tune with sample weights and a signal from cross-fitted fold models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from espalier.config.base import Config, FormerName
from espalier.config.correction import DistrustConfig, SignalConfig, WeightsConfig
from espalier.config.paths import ModelSource
from espalier.config.training import (
    BatchConfig,
    BudgetConfig,
    CheckpointConfig,
    GuardConfig,
    OptimizerConfig,
    ValidationConfig,
    ZeroLevel,
)
from espalier.jobs.recipe import Recipe
from espalier.jobs.stage import StageSettings
from espalier.kinds.correct.kind import CorrectStage
from espalier.kinds.cross_fit.kind import CrossFitStage
from espalier.kinds.evaluate.kind import EvaluateStage, GateConfig
from espalier.kinds.export.kind import ExportStage
from espalier.kinds.load.kind import LoadStage
from espalier.kinds.train.kind import TrainStage


class SelfCorrection(Config):
    """Settings of `self_correction`: self-corrected fine-tuning (DCS) on labelled data, beside plain fine-tuning."""

    name: Literal["self_correction"]
    model: ModelSource
    budget: BudgetConfig
    batch: BatchConfig
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4, schedule="linear", warmup=0.1, final_lr_ratio=0.0)
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    fold_budget: Annotated[float, Field(gt=0.0, le=1.0), FormerName("twin_budget")] = 0.5
    """Each fold model's budget as a share of the student's: the longer it trains, the more it fits wrong labels."""
    signal: SignalConfig = SignalConfig()
    weights: WeightsConfig = WeightsConfig()
    distrust: DistrustConfig = DistrustConfig()
    baseline: bool = True
    """Also fine-tune without any correction, to compare with."""
    validation: ValidationConfig | None = None
    zero_level: ZeroLevel = "none"
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    gate: GateConfig = GateConfig()
    export_dtype: Literal["float32", "bfloat16"] = "float32"


def stages(dials: SelfCorrection, sequence_tokens: int) -> tuple[StageSettings, ...]:
    """parent -> twins -> corrected -> scores (beside plainly tuned) -> exported."""
    shared: dict[str, Any] = {
        "student": "parent",
        "budget": dials.budget,
        "batch": dials.batch,
        "optimizer": dials.optimizer,
    }
    whole: dict[str, Any] = {
        "zero_level": dials.zero_level,
        "validation": dials.validation,
        "checkpoint": dials.checkpoint,
        "guard": dials.guard,
    }
    plain = (TrainStage(name="plain", kind="train", **shared, **whole),) if dials.baseline else ()
    return (
        LoadStage(name="parent", kind="load", model=dials.model),
        *plain,
        CrossFitStage(
            name="twins",
            kind="cross_fit",
            folds=dials.folds,
            repeats=dials.repeats,
            **shared | {"budget": dials.budget.part(dials.fold_budget)},
        ),
        CorrectStage(
            name="corrected",
            kind="correct",
            teacher="twins",
            signal=dials.signal,
            weights=dials.weights,
            distrust=dials.distrust,
            **shared,
            **whole,
        ),
        EvaluateStage(
            name="scores",
            kind="evaluate",
            model="corrected",
            against=tuple(stage.name for stage in plain),
            microbatch_sequences=32,
            gate=dials.gate,
        ),
        ExportStage(name="exported", kind="export", model="corrected", dtype=dials.export_dtype),
    )


RECIPE = Recipe("self_correction", SelfCorrection, stages, {"twins.budget": "fold_budget", "dtype": "export_dtype"})
