"""Stage kind `grow`: make a model larger."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from espalier.config.base import Config, Count
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import DepthOperator, NewMoments
from espalier.jobs.kind import StageKind
from espalier.jobs.stage import ModelInput, StageSettings


class GrowTarget(Config):
    """The sizes to reach; those left out stay."""

    layers: Count | None = None
    hidden: Count | None = None
    ffn: Count | None = None
    heads: Count | None = None

    @model_validator(mode="after")
    def _some(self) -> GrowTarget:
        if all(size is None for size in (self.layers, self.hidden, self.ffn, self.heads)):
            raise RefusedInput([Fault("layers", None, "at least one of layers, hidden, ffn, heads")])
        return self


class SeamConfig(Config):
    """The comparison of both models on real text, in float32, before a growth counts as done."""

    sequences: Count = 4
    tolerance: Annotated[float, Field(ge=1e-7, le=100.0)] = 1e-3
    """The largest difference that the loss of one token may show, in nats, where the operator keeps the function."""


class GrowStage(StageSettings):
    """Make a model larger, its optimizer's moments too: depth by an operator, width by function-preserving splits."""

    kind: Literal["grow"]
    student: ModelInput
    target: GrowTarget
    operator: DepthOperator = "stack"
    """Where new layers come from."""
    new_moments: NewMoments = "copied"
    """Moments of layers and units that are new; those that were there keep theirs. Units that are split have no mean
    over layers to take: `averaged` copies theirs."""
    noise: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """How far split units are set apart, as a share of a weight's standard deviation; the function stays. Without any,
    copies get equal gradients and stay one unit for ever. 0.01 when left out, where width grows."""
    seam: SeamConfig = SeamConfig()


KIND = StageKind(
    name="grow",
    settings=GrowStage,
    work="espalier.kinds.grow.work:run",
    formats=("text", "labelled"),
    preview="espalier.kinds.grow.preview:preview",
    checks="espalier.kinds.grow.checks:faults",
    moments="input",
    past="grown",
    reshapes=True,
)
