"""Prune a pretrained model and heal it by distillation from itself (Minitron, arXiv 2407.14679 and 2408.11796)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from espalier.config.base import Config, Count, parse_tuple
from espalier.config.losses import LossConfig, loss_config
from espalier.config.paths import ModelSource
from espalier.config.training import (
    BatchConfig,
    BudgetConfig,
    CheckpointConfig,
    GuardConfig,
    OptimizerConfig,
    ZeroLevel,
)
from espalier.jobs.recipe import Recipe
from espalier.jobs.stage import StageSettings
from espalier.kinds.distill.kind import DistillStage
from espalier.kinds.evaluate.kind import EvaluateStage, GateConfig, Prompt
from espalier.kinds.export.kind import ExportStage
from espalier.kinds.load.kind import LoadStage
from espalier.kinds.prune.kind import CalibrationConfig, PruneStage, SearchConfig, TargetConfig


class PruneThenDistill(Config):
    """Dials of `prune_then_distill`.

    The default loss is forward KL on logits at temperature 1 without cross-entropy, what both Minitron papers
    found best.
    """

    name: Literal["prune_then_distill"]
    model: ModelSource
    target: TargetConfig
    budget: BudgetConfig
    batch: BatchConfig
    search: SearchConfig = SearchConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    losses: Annotated[tuple[LossConfig, ...], BeforeValidator(parse_tuple), Field(min_length=1)] = (
        loss_config("forward_kl"),
    )
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4)
    zero_level: ZeroLevel = "gradients"
    teacher_zero_level: Literal["none", "parameters"] = "none"
    activation_checkpointing: bool = False
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    evaluation_sequences: Count | None = None
    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(parse_tuple)] = ()
    gate: GateConfig = GateConfig()
    export_dtype: Literal["float32", "bfloat16"] = "bfloat16"


def stages(dials: PruneThenDistill, sequence_tokens: int) -> tuple[StageSettings, ...]:
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


RECIPE = Recipe(
    "prune_then_distill", PruneThenDistill, stages, {"sequences": "evaluation_sequences", "dtype": "export_dtype"}
)
