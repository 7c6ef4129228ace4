"""Stage kind `focal`: train on the tokens that the model is unsure of (focal loss, arXiv 1708.02002)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espalier.jobs.kind import StageKind
from espalier.jobs.trained_stage import TrainedStage


class FocalStage(TrainedStage):
    """Cross-entropy, each token weighted by how unsure the model is of it."""

    kind: Literal["focal"]
    gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0
    """The larger, the less a token counts that is known already; 0 is plain cross-entropy."""


KIND = StageKind(
    name="focal",
    settings=FocalStage,
    work="espalier_focal.work:run",
    formats=("text", "labelled"),
    preview="espalier.planning.training_preview:preview",
    moments="made",
    past="focused",
)
