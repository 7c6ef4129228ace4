"""Stage kind `train`: learn from the data itself."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import model_validator

from espalier.config.base import FormerName
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import DepthSamplingConfig
from espalier.jobs.kind import StageKind
from espalier.jobs.trained_stage import TrainedStage


class TrainStage(TrainedStage):
    """Train on the text itself: cross-entropy of the next token, or of masked ones."""

    kind: Literal["train"]
    depth_sampling: Annotated[DepthSamplingConfig | None, FormerName("lessons")] = None
    """Draw a number of layers for each microbatch."""

    @model_validator(mode="after")
    def _depth_sampling_fits(self) -> TrainStage:
        if self.depth_sampling is not None and self.zero_level == "parameters":
            reason = "parameters gathers layers in the order of the pass before, and depth sampling changes that order"
            raise RefusedInput([Fault("zero_level", self.zero_level, f"none, optimizer or gradients: {reason}")])
        return self

    def result_settings(self) -> dict[str, Any]:
        """With depth sampling the size of a microbatch changes the result, as a depth is drawn for each microbatch."""
        settings = super().result_settings()
        if self.depth_sampling is not None:
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
