"""Stage kind `prune`: remove the least important units of a model (Minitron, arXiv 2407.14679)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import EXECUTION, Config, Count, Name, parse_tuple
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.kind import StageKind
from espalier.jobs.stage import ModelInput, StageSettings, TakesFrom


class TargetConfig(Config):
    """The shape to prune to: a number of parameters, for which a shape is searched, or sizes of axes."""

    parameters: Count | None = None
    layers: Count | None = None
    hidden: Count | None = None
    ffn: Count | None = None
    heads: Count | None = None

    @model_validator(mode="after")
    def _some(self) -> TargetConfig:
        shape = (self.layers, self.hidden, self.ffn, self.heads)
        if self.parameters is None and all(size is None for size in shape):
            raise RefusedInput([Fault("parameters", None, "either parameters or some of layers, hidden, ffn, heads")])
        if self.parameters is not None and any(size is not None for size in shape):
            allowed = "leave it out, as layers, hidden, ffn or heads are given, or give it alone"
            raise RefusedInput([Fault("parameters", self.parameters, allowed)])
        return self


Axis = Literal["layers", "hidden", "ffn", "heads"]


class SearchConfig(Config):
    """The search for a number of parameters: axes that may shrink, multiples that sizes have to be, and limits."""

    axes: Annotated[tuple[Axis, ...], BeforeValidator(parse_tuple), Field(min_length=1)] = ("layers", "ffn")
    hidden_multiple_of: Count = 64
    ffn_multiple_of: Count = 64
    layers_multiple_of: Count = 1
    max_width_cut: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.4
    max_depth_cut: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2


class CalibrationConfig(Config):
    """The calibration text for importance: sequences spread over the training split."""

    samples: Count = 1024
    microbatch_sequences: Annotated[Count, EXECUTION] = 4


class PruneStage(StageSettings):
    """Measure importance in forward passes over calibration text and keep the most important units (Minitron)."""

    kind: Literal["prune"]
    student: ModelInput
    target: TargetConfig
    search: SearchConfig = SearchConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    scores: Annotated[Name | None, TakesFrom(("scores",))] = None
    """Use the importance scores of this prune stage instead of measuring again."""
    zero_level: Annotated[Literal["none", "parameters"], EXECUTION] = "none"


KIND = StageKind(
    name="prune",
    settings=PruneStage,
    work="espalier.kinds.prune.work:run",
    yields=("model", "scores"),
    formats=("text",),
    unfit="a stage over text, on which importance is measured: prune before fine-tuning, or give text as its `data`",
    preview="espalier.kinds.prune.preview:preview",
    past="pruned",
    reshapes=True,
)
