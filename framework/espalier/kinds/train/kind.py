"""Stage kind `train`: learn from the data itself."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import LessonsConfig
from espalier.jobs.kind import StageKind
from espalier.jobs.trained_stage import TrainedStage


class TrainStage(TrainedStage):
    """Train on the text itself: cross-entropy of the next token, or of masked ones."""

    kind: Literal["train"]
    lessons: LessonsConfig | None = None
    """Draw a depth for each microbatch."""

    @model_validator(mode="after")
    def _lessons_fit(self) -> TrainStage:
        if self.lessons is not None and self.zero_level == "parameters":
            reason = "parameters gathers each layer by the order of the pass before, and lessons change that order"
            raise RefusedInput([Fault("zero_level", self.zero_level, f"none, optimizer or gradients: {reason}")])
        return self

    def result_settings(self) -> dict[str, Any]:
        """Lessons draw a depth for each microbatch, so its size is part of the result."""
        settings = super().result_settings()
        if self.lessons is not None:
            settings["batch"]["microbatch_sequences"] = self.batch.microbatch_sequences
        return settings


KIND = StageKind(
    name="train",
    settings=TrainStage,
    work="espalier.kinds.train.work:run",
    formats=("text", "labelled"),
    preview="espalier.kinds.train.preview:preview",
    checks="espalier.kinds.train.checks:faults",
    moments="made",
    past="trained",
)
