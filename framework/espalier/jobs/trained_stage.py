"""The settings that all training stages share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espalier.config.base import ADDED_LATER, EXECUTION
from espalier.config.training import (
    BatchConfig,
    BudgetConfig,
    CheckpointConfig,
    GuardConfig,
    OptimizerConfig,
    TuneConfig,
    ValidationConfig,
    ZeroLevel,
)
from espalier.jobs.stage import ModelInput, StageSettings


class TrainedStage(StageSettings):
    """Base of the settings of training stages."""

    student: ModelInput
    budget: BudgetConfig
    batch: BatchConfig
    optimizer: OptimizerConfig
    tune: Annotated[TuneConfig | None, ADDED_LATER] = None
    """Train a part of the student; all of it when left out."""
    zero_level: Annotated[ZeroLevel, EXECUTION] = "gradients"
    activation_checkpointing: Annotated[bool, EXECUTION] = False
    checkpoint: Annotated[CheckpointConfig, EXECUTION] = CheckpointConfig()
    guard: Annotated[GuardConfig, EXECUTION] = GuardConfig()
    validation: ValidationConfig | None = None
    """Labelled data only."""
    optimizer_state: Literal["fresh", "keep"] = "fresh"
    """Whether the optimizer continues with the moments that the student was trained with."""
    masked_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Masked language models only: the share of tokens to mask and predict."""
