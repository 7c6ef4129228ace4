"""Fine-tune a model that corrects itself: weights and signal per sample, from twins that have not seen its label."""

from __future__ import annotations

from typing import Any

from espalier.config.recipes import SelfCorrection
from espalier.config.stages import (
    CorrectStage,
    CrossFitStage,
    EvaluateStage,
    ExportStage,
    LoadStage,
    StageConfig,
    TrainStage,
)


def stages(dials: SelfCorrection) -> tuple[StageConfig, ...]:
    """parent -> twins -> corrected -> scores (beside plainly tuned) -> exported."""
    shared: dict[str, Any] = {
        "student": "parent",
        "budget": dials.budget,
        "batch": dials.batch,
        "optimizer": dials.optimizer,
    }
    whole = {
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
            **shared | {"budget": dials.budget.part(dials.twin_budget)},
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
