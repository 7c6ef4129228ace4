"""Stage kind `evaluate`: measure and compare models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import EXECUTION, Config, Count, Name, Words, parse_tuple
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import UnrolledConfig
from espalier.jobs.kind import StageKind
from espalier.jobs.stage import ModelInput, StageSettings, TakesFrom


class Range(Config):
    """From `min` to `max`, both included; either may be left open."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _holds_something(self) -> Range:
        if self.min is None and self.max is None:
            raise RefusedInput([Fault("max", None, "min, max or both")])
        if self.min is not None and self.max is not None and self.min > self.max:
            raise RefusedInput([Fault("min", self.min, f"at most max {self.max:g}")])
        return self


class GateConfig(Config):
    """Bounds of the measurements; a model outside of them stops the run with exit code 3."""

    perplexity: Range | None = None
    perplexity_ratio: Range | None = None
    """The ratio of `model`'s perplexity to that of the first model of `against`."""
    metric: Range | None = None
    """Labelled data: `data.metric`, with 1 as 100 %."""


Prompt = Annotated[str, Field(max_length=4096), Words("a text of at most 4096 characters")]
"""A text for the model to continue, as a sample for people; longer ones take minutes and show nothing more."""


class EvaluateStage(StageSettings):
    """Measure a model on the validation data, compare it with others, and generate a few samples."""

    kind: Literal["evaluate"]
    model: ModelInput
    against: Annotated[tuple[Name, ...], BeforeValidator(parse_tuple), TakesFrom()] = ()
    sequences: Count | None = None
    """Number of sequences from the start of the validation text; all when left out."""
    microbatch_sequences: Annotated[Count, EXECUTION] = 4
    zero_level: Annotated[Literal["none", "parameters"], EXECUTION] = "none"
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """Rounding to bfloat16 shows in the fourth digit of a perplexity."""
    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(parse_tuple)] = ()
    unrolled: UnrolledConfig | None = None
    """Measure `model` at a larger depth than its own; models of `against` keep theirs."""
    masked_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Masked language models only: the share of tokens to be predicted."""
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _unrolled_is_whole(self) -> EvaluateStage:
        if self.unrolled is not None and self.zero_level == "parameters":
            raise RefusedInput([Fault("zero_level", self.zero_level, "none, as unrolled changes the order of layers")])
        return self

    @model_validator(mode="after")
    def _gate_has_base(self) -> EvaluateStage:
        if self.gate.perplexity_ratio and not self.against:
            raise RefusedInput(
                [Fault("against", None, "a list of models, as gate.perplexity_ratio compares with its first")]
            )
        return self


KIND = StageKind(
    name="evaluate",
    settings=EvaluateStage,
    work="espalier.kinds.evaluate.work:run",
    yields=(),
    formats=("text", "labelled"),
    preview="espalier.kinds.evaluate.preview:preview",
    checks="espalier.kinds.evaluate.checks:faults",
    remarks="espalier.kinds.evaluate.prompts:remarks",
    past="evaluated",
)
