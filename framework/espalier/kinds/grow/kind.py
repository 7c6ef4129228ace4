"""Stage kind `grow`: make a model larger."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from espalier.config.base import Config, Count, FormerName
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


class GrowthCheckConfig(Config):
    """The growth check: compare both models' losses on real text, in float32, before the stage is done."""

    sequences: Count = 4
    """Of the training text."""
    tolerance: Annotated[float, Field(ge=1e-7, le=100.0)] = 1e-3
    """The largest difference of a token's loss, in nats, where the operator keeps the function."""


class GrowStage(StageSettings):
    """Make a model and its optimizer's moments larger: depth by an operator, width by function-preserving splits."""

    kind: Literal["grow"]
    student: ModelInput
    target: GrowTarget
    operator: DepthOperator = "stack"
    """How new layers are made from those that are there."""
    new_moments: NewMoments = "copied"
    """The optimizer's moments of new layers and units; old ones keep theirs. `averaged` is the mean over the layers;
    for split units, which have no such mean, it is the same as `copied`."""
    noise: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Noise added to split units, as a share of a weight's standard deviation; the function stays the same. Without it
    the copies of a unit get equal gradients and never differ. 0.01 when left out and the width grows."""
    growth_check: Annotated[GrowthCheckConfig, FormerName("seam")] = GrowthCheckConfig()


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
