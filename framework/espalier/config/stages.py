"""The kinds of stage a job can chain. Each names the stages whose output it takes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import Config, Count, Name, Words, parse_tuple
from espalier.config.correction import DistrustConfig, SignalConfig, WeightsConfig, check_correction
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import FromScratch, GrowStage, LessonsConfig, UnrolledConfig
from espalier.config.paths import ModelSource
from espalier.config.training import (
    BatchConfig,
    BudgetConfig,
    CheckpointConfig,
    GuardConfig,
    LossConfig,
    OptimizerConfig,
    TuneConfig,
    ValidationConfig,
    ZeroLevel,
)

_Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}$"), Words("a branch, a tag or a commit")]


class LoadStage(Config):
    """Bring a model into the run: a Hugging Face folder (safetensors only), a hub name, or one of random weights."""

    name: Name
    kind: Literal["load"]
    model: ModelSource | None = None
    from_scratch: FromScratch | None = None
    """Instead of `model`."""
    revision: _Revision | None = None
    """Of a hub model."""
    head: Literal["auto", "new"] = "auto"
    """With labelled data: `new` gives a published classifier a fresh head; `auto` gives one to models without."""

    def inputs(self) -> dict[str, str]:
        """Setting -> name of the stage it refers to."""
        return {}

    @model_validator(mode="after")
    def _one_origin(self) -> LoadStage:
        if (self.model is None) == (self.from_scratch is None):
            raise RefusedInput([Fault("model", self.model, "either model or from_scratch")])
        return self


class TargetConfig(Config):
    """The shape to reach: a parameter count that is searched for, or axes given one by one."""

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
    """How a parameter target is searched: axes that may shrink, their grain, and how far each may go."""

    axes: Annotated[tuple[Axis, ...], BeforeValidator(parse_tuple), Field(min_length=1)] = ("layers", "ffn")
    hidden_multiple_of: Count = 64
    ffn_multiple_of: Count = 64
    layers_multiple_of: Count = 1
    max_width_cut: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.4
    max_depth_cut: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2


class CalibrationConfig(Config):
    """Text that importance is measured on: sequences of the training split, spread over it."""

    samples: Count = 1024
    microbatch_sequences: Count = 4


class PruneStage(Config):
    """Measure importance in one forward pass and keep the most important part (Minitron)."""

    name: Name
    kind: Literal["prune"]
    student: Name
    target: TargetConfig
    search: SearchConfig = SearchConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    scores: Name | None = None
    """Take the importance scores of this prune stage instead of measuring again."""
    zero_level: Literal["none", "parameters"] = "none"

    def inputs(self) -> dict[str, str]:
        return {"student": self.student} | ({"scores": self.scores} if self.scores else {})


class _Trained(Config):
    """What a stage that trains has, whatever its losses."""

    name: Name
    student: Name
    budget: BudgetConfig
    batch: BatchConfig
    optimizer: OptimizerConfig
    tune: TuneConfig | None = None
    """Train a part of the student; all of it when left out."""
    zero_level: ZeroLevel = "gradients"
    activation_checkpointing: bool = False
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    validation: ValidationConfig | None = None
    """With labelled data only."""
    optimizer_state: Literal["fresh", "keep"] = "fresh"
    """Whether the moments that the student was trained with are gone on with."""
    masked_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Masked language models only: the share of tokens to be predicted."""


class DistillStage(_Trained):
    """Train the student to follow a frozen teacher."""

    kind: Literal["distill"]
    teacher: Name
    losses: Annotated[tuple[LossConfig, ...], BeforeValidator(parse_tuple), Field(min_length=1)] = (
        LossConfig(function="forward_kl"),
    )
    teacher_zero_level: Literal["none", "parameters"] = "none"

    def inputs(self) -> dict[str, str]:
        return {"student": self.student, "teacher": self.teacher}


class TrainStage(_Trained):
    """Train on the text itself: cross-entropy of the next token, or of masked ones."""

    kind: Literal["train"]
    lessons: LessonsConfig | None = None
    """Draw a depth for each microbatch."""

    def inputs(self) -> dict[str, str]:
        return {"student": self.student}

    @model_validator(mode="after")
    def _lessons_fit(self) -> TrainStage:
        if self.lessons is not None and self.zero_level == "parameters":
            reason = "parameters gathers each layer by the order of the pass before, and lessons change that order"
            raise RefusedInput([Fault("zero_level", self.zero_level, f"none, optimizer or gradients: {reason}")])
        return self

    @property
    def losses(self) -> tuple[LossConfig, ...]:
        return (LossConfig(function="cross_entropy"),)


class CrossFitStage(_Trained):
    """Fine-tune twins of the student, each without one fold of the samples, which it then judges.

    Every sample is so judged by models that have not seen its label. A twin is trained by one worker alone, as many
    side by side as there are workers; what comes out are their answers, which a `correct` stage can take as teacher.
    """

    kind: Literal["cross_fit"]
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """How often all is done with other folds; answers are averaged."""
    zero_level: Literal["none"] = "none"

    def inputs(self) -> dict[str, str]:
        return {"student": self.student}

    @property
    def losses(self) -> tuple[LossConfig, ...]:
        return (LossConfig(function="cross_entropy"),)


class CorrectStage(_Trained):
    """Fine-tune with a teacher's signal and a weight for each sample, both revised every epoch (DCS, 2312.07028)."""

    kind: Literal["correct"]
    teacher: Name | None = None
    """A stage that makes a model, or a `cross_fit` stage; the student's own past alone when left out."""
    teacher_zero_level: Literal["none", "parameters"] = "none"
    signal: SignalConfig = SignalConfig()
    weights: WeightsConfig = WeightsConfig()
    distrust: DistrustConfig = DistrustConfig()

    def inputs(self) -> dict[str, str]:
        return {"student": self.student} | ({"teacher": self.teacher} if self.teacher else {})

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> CorrectStage:
        check_correction(self.signal, self.weights, self.teacher)
        return self


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
    """Bounds a result must keep, or the run stops with exit code 3."""

    perplexity: Range | None = None
    perplexity_ratio: Range | None = None
    """To the first model of `against`."""
    metric: Range | None = None
    """Of labelled data: `data.metric`, as a share of 1."""


Prompt = Annotated[str, Field(max_length=4096), Words("a text of at most 4096 characters")]
"""What a model is to go on with, for a person to read; longer ones take minutes and show nothing more."""


class EvaluateStage(Config):
    """Measure a model on the validation text, beside others, and write a few samples."""

    name: Name
    kind: Literal["evaluate"]
    model: Name
    against: Annotated[tuple[Name, ...], BeforeValidator(parse_tuple)] = ()
    sequences: Count | None = None
    """Of the validation text, from its start; all of it when left out."""
    microbatch_sequences: Count = 4
    zero_level: Literal["none", "parameters"] = "none"
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """Rounding to bfloat16 shows in the fourth digit of a perplexity."""
    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(parse_tuple)] = ()
    unrolled: UnrolledConfig | None = None
    """Measure `model` at another depth than its own; those of `against` stay as they are."""
    masked_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Masked language models only: the share of tokens to be predicted."""
    gate: GateConfig = GateConfig()

    def inputs(self) -> dict[str, str]:
        return {"model": self.model} | {f"against[{i}]": name for i, name in enumerate(self.against)}

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


class ExportStage(Config):
    """Write a model as a plain Hugging Face folder."""

    name: Name
    kind: Literal["export"]
    model: Name
    dtype: Literal["float32", "bfloat16"] = "bfloat16"

    def inputs(self) -> dict[str, str]:
        return {"model": self.model}


StageConfig = Annotated[
    LoadStage
    | GrowStage
    | PruneStage
    | DistillStage
    | TrainStage
    | CrossFitStage
    | CorrectStage
    | EvaluateStage
    | ExportStage,
    Field(discriminator="kind"),
]
TrainedStage = DistillStage | TrainStage | CrossFitStage | CorrectStage
