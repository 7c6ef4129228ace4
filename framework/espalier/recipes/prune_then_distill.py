"""Prune a pretrained model and heal it by distillation from itself (Minitron, arXiv 2407.14679 and 2408.11796)."""

from __future__ import annotations

from espalier.config.recipes import PruneThenDistill
from espalier.config.stages import (
    DistillStage,
    EvaluateStage,
    ExportStage,
    LoadStage,
    PruneStage,
    StageConfig,
)


def stages(dials: PruneThenDistill) -> tuple[StageConfig, ...]:
    """parent -> pruned -> healed -> scores (beside parent and pruned) -> exported."""
    return (
        LoadStage(name="parent", kind="load", model=dials.model),
        PruneStage(
            name="pruned",
            kind="prune",
            student="parent",
            target=dials.target,
            search=dials.search,
            calibration=dials.calibration,
        ),
        DistillStage(
            name="healed",
            kind="distill",
            student="pruned",
            teacher="parent",
            budget=dials.budget,
            batch=dials.batch,
            losses=dials.losses,
            optimizer=dials.optimizer,
            zero_level=dials.zero_level,
            teacher_zero_level=dials.teacher_zero_level,
            activation_checkpointing=dials.activation_checkpointing,
            checkpoint=dials.checkpoint,
            guard=dials.guard,
        ),
        EvaluateStage(
            name="scores",
            kind="evaluate",
            model="healed",
            against=("parent", "pruned"),
            sequences=dials.evaluation_sequences,
            prompts=dials.prompts,
            gate=dials.gate,
        ),
        ExportStage(name="exported", kind="export", model="healed", dtype=dials.export_dtype),
    )
