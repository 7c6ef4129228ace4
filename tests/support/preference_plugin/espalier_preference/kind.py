"""Stage kind `dpo`: direct preference optimisation (arXiv 2305.18290)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espalier.jobs.kind import StageKind
from espalier.jobs.stage import ModelInput
from espalier.jobs.trained_stage import TrainedStage


class DpoStage(TrainedStage):
    """Raise the likelihood of preferred answers over that of others, measured from a frozen teacher's (DPO)."""

    kind: Literal["dpo"]
    teacher: ModelInput
    """The model to stay close to, as a rule the one that the student begins as."""
    beta: Annotated[float, Field(gt=0.0, le=10.0)] = 0.1
    """The larger, the closer."""


KIND = StageKind(
    name="dpo",
    settings=DpoStage,
    work="espalier_preference.work:run",
    formats=("preference",),
    unfit="preference pairs (data.format: preference)",
    preview="espalier.planning.training_preview:preview",
    moments="made",
    past="aligned",
)
