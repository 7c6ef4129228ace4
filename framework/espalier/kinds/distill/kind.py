"""Stage kind `distill`: train a student on a teacher's outputs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from espalier.config.base import EXECUTION, parse_tuple
from espalier.config.losses import LossConfig, loss_config
from espalier.jobs.kind import StageKind
from espalier.jobs.stage import ModelInput
from espalier.jobs.trained_stage import TrainedStage


class DistillStage(TrainedStage):
    """Train the student to follow a frozen teacher."""

    kind: Literal["distill"]
    teacher: ModelInput
    losses: Annotated[tuple[LossConfig, ...], BeforeValidator(parse_tuple), Field(min_length=1)] = (
        loss_config("forward_kl"),
    )
    teacher_zero_level: Annotated[Literal["none", "parameters"], EXECUTION] = "none"


KIND = StageKind(
    name="distill",
    settings=DistillStage,
    work="espalier.kinds.distill.work:run",
    formats=("text", "labelled"),
    trains="espalier.kinds.distill.trained:trained_part",
    preview="espalier.planning.training_preview:preview",
    checks="espalier.kinds.distill.checks:faults",
    moments="made",
    past="distilled",
)
