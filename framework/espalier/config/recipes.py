"""The dials of each recipe. What a recipe makes of them stands in `espalier.recipes`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from espalier.config.base import Config, Count, parse_tuple
from espalier.config.correction import DistrustConfig, SignalConfig, WeightsConfig
from espalier.config.paths import ModelSource
from espalier.config.stages import CalibrationConfig, GateConfig, SearchConfig, TargetConfig
from espalier.config.training import (
    BatchConfig,
    BudgetConfig,
    CheckpointConfig,
    GuardConfig,
    LossConfig,
    OptimizerConfig,
    ValidationConfig,
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


class SelfCorrection(Config):
    """Dials of `self_correction`: fine-tuning beside itself corrected (DCS), on labelled data."""

    name: Literal["self_correction"]
    model: ModelSource
    budget: BudgetConfig
    batch: BatchConfig
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4, schedule="linear", warmup=0.1, final_lr_ratio=0.0)
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    signal: SignalConfig = SignalConfig()
    weights: WeightsConfig = WeightsConfig()
    distrust: DistrustConfig = DistrustConfig()
    baseline: bool = True
    """Fine-tune plainly, too, to compare with."""
    validation: ValidationConfig | None = None
    zero_level: ZeroLevel = "none"
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    gate: GateConfig = GateConfig()
    export_dtype: Literal["float32", "bfloat16"] = "float32"
