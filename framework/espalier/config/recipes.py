"""The dials of each recipe. What a recipe makes of them stands in `espalier.recipes`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from espalier.config.base import Config, Count, parse_tuple
from espalier.config.paths import ModelSource
from espalier.config.stages import CalibrationConfig, GateConfig, SearchConfig, TargetConfig
from espalier.config.training import (
    BatchConfig,
    BudgetConfig,
    CheckpointConfig,
    GuardConfig,
    LossConfig,
    OptimizerConfig,
    ZeroLevel,
)


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
        LossConfig(function="forward_kl"),
    )
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4)
    zero_level: ZeroLevel = "gradients"
    teacher_zero_level: Literal["none", "parameters"] = "none"
    activation_checkpointing: bool = False
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    evaluation_sequences: Count | None = None
    prompts: Annotated[tuple[str, ...], BeforeValidator(parse_tuple)] = ()
    gate: GateConfig = GateConfig()
    export_dtype: Literal["float32", "bfloat16"] = "bfloat16"
