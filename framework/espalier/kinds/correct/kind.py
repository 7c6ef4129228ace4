"""Stage kind `correct`: self-correcting fine-tuning (DCS, arXiv 2312.07028)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from espalier.config.base import EXECUTION, Name
from espalier.config.correction import DistrustConfig, SignalConfig, WeightsConfig, check_correction
from espalier.jobs.kind import StageKind
from espalier.jobs.stage import TakesFrom
from espalier.jobs.trained_stage import TrainedStage


class CorrectStage(TrainedStage):
    """Fine-tune with a teacher's signal and a weight for each sample, both revised every epoch (DCS, 2312.07028)."""

    kind: Literal["correct"]
    teacher: Annotated[Name | None, TakesFrom(("model", "answers"))] = None
    """A stage that makes a model, or a `cross_fit` stage. Without one the signal is the student's own past."""
    teacher_zero_level: Annotated[Literal["none", "parameters"], EXECUTION] = "none"
    signal: SignalConfig = SignalConfig()
    weights: WeightsConfig = WeightsConfig()
    distrust: DistrustConfig = DistrustConfig()

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> CorrectStage:
        check_correction(self.signal, self.weights, self.teacher)
        return self


KIND = StageKind(
    name="correct",
    settings=CorrectStage,
    work="espalier.kinds.correct.work:run",
    formats=("text", "labelled"),
    preview="espalier.kinds.correct.preview:preview",
    checks="espalier.kinds.correct.checks:faults",
    moments="made",
    past="corrected",
)
