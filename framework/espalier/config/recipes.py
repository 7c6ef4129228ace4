"""The dials of each recipe. What a recipe makes of them stands in `espalier.recipes`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import Config, Count, Share, parse_tuple
from espalier.config.correction import DistrustConfig, SignalConfig, WeightsConfig
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import (
    DepthOperator,
    DepthSampler,
    FromScratch,
    NewMoments,
    SeamConfig,
    SharingMap,
)
from espalier.config.losses import LossConfig, loss_config
from espalier.config.paths import ModelSource
from espalier.config.stages import CalibrationConfig, GateConfig, Prompt, SearchConfig, TargetConfig
from espalier.config.training import (
    BatchConfig,
    BudgetConfig,
    CheckpointConfig,
    GuardConfig,
    OptimizerConfig,
    ValidationConfig,
    ZeroLevel,
)


class PruneThenDistill(Config):
    """Dials of `prune_then_distill`.

    The default loss is forward KL on logits at temperature 1 without cross-entropy, what both Minitron papers
    found best.
    """

    name: Literal["prune_then_distill"]
    model: ModelSource
    target: TargetConfig
    budget: BudgetConfig
    batch: BatchConfig
    search: SearchConfig = SearchConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    losses: Annotated[tuple[LossConfig, ...], BeforeValidator(parse_tuple), Field(min_length=1)] = (
        loss_config("forward_kl"),
    )
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4)
    zero_level: ZeroLevel = "gradients"
    teacher_zero_level: Literal["none", "parameters"] = "none"
    activation_checkpointing: bool = False
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    evaluation_sequences: Count | None = None
    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(parse_tuple)] = ()
    gate: GateConfig = GateConfig()
    export_dtype: Literal["float32", "bfloat16"] = "bfloat16"


class SelfCorrection(Config):
    """Dials of `self_correction`: fine-tuning beside itself corrected (DCS), on labelled data."""

    name: Literal["self_correction"]
    model: ModelSource
    budget: BudgetConfig
    batch: BatchConfig
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-4, schedule="linear", warmup=0.1, final_lr_ratio=0.0)
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    twin_budget: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """The budget of each twin as a share of the student's: the longer it learns, the more wrong labels it believes."""
    signal: SignalConfig = SignalConfig()
    weights: WeightsConfig = WeightsConfig()
    distrust: DistrustConfig = DistrustConfig()
    baseline: bool = True
    """Fine-tune plainly, too, to compare with."""
    validation: ValidationConfig | None = None
    zero_level: ZeroLevel = "none"
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    gate: GateConfig = GateConfig()
    export_dtype: Literal["float32", "bfloat16"] = "float32"


GrowthPreset = Literal["late_stack", "apollo", "gradual_stack", "g_stack", "one_layer_to_full", "scratch"]


class ProgressiveGrowth(Config):
    """Dials of `progressive_growth`: train few layers first, more later.

    A preset gives depths, boundaries, sampling and operator; each can be set by itself. What our own measurements
    (60 M tokens, 27.5 M parameters, 12 layers) say: a WSD schedule matters more than growth; `late_stack` reaches the
    whole model's loss for the fewest FLOPs, 35 % less, and for 39 % less with 24 layers; `gradual_stack` ends lowest at
    equal tokens; `apollo` has the flattest seams and saves a tenth, better with `stack` than as published;
    `one_layer_to_full` needs a budget far larger than that.
    """

    name: Literal["progressive_growth"]
    from_scratch: FromScratch
    """The whole model; `layers` is the depth to reach."""
    preset: GrowthPreset = "late_stack"
    budget: BudgetConfig
    """Of all lessons together."""
    batch: BatchConfig
    depths: Annotated[tuple[Count, ...], BeforeValidator(parse_tuple)] = ()
    """Layers of each lesson, ascending; the last is the whole model's."""
    boundaries: Annotated[tuple[Share | Count, ...], BeforeValidator(parse_tuple)] = ()
    """Where each lesson but the last ends, from the start of the budget: a share of it (0.25), or tokens (5M)."""
    sampling: DepthSampler | Literal["none"] | None = None
    """How depths above the lesson's own are drawn; `none` draws none."""
    operator: DepthOperator | None = None
    new_moments: NewMoments = "copied"
    optimizer_state: Literal["fresh", "keep"] = "keep"
    """Whether moments go through the boundaries."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, schedule="wsd", warmup=0.02, decay=0.2)
    """One schedule over all lessons. With `one_layer_to_full` wsd has a decay of 0.1 where none is given."""
    rewarm: Share = 0.0
    """The share of each lesson but the first in which the rate rises again."""
    baseline: bool = False
    """Train the whole model from its first step beside, with the same budget, to compare with."""
    zero_level: ZeroLevel = "gradients"
    activation_checkpointing: bool = False
    masked_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    seam: SeamConfig = SeamConfig()
    evaluation_sequences: Count | None = None
    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(parse_tuple)] = ()
    gate: GateConfig = GateConfig()
    export_dtype: Literal["float32", "bfloat16"] = "bfloat16"

    @property
    def draws_depths(self) -> bool:
        """Whether lessons draw depths: where that is asked for, and by itself in `apollo`."""
        return self.preset == "apollo" if self.sampling is None else self.sampling != "none"

    @model_validator(mode="before")
    @classmethod
    def _decays_after_the_jump(cls, dials: Any) -> Any:
        """`one_layer_to_full` grows at 80 %, where the rate is to be constant still (arXiv 2511.04981)."""
        if not isinstance(dials, dict) or dials.get("preset") != "one_layer_to_full":
            return dials
        optimizer = dials.get("optimizer", cls.model_fields["optimizer"].default.model_dump(exclude={"decay"}))
        if not isinstance(optimizer, dict) or optimizer.get("schedule") != "wsd":
            return dials
        return dials | {"optimizer": {"decay": 0.1, **optimizer}}

    @model_validator(mode="after")
    def _fits(self) -> ProgressiveGrowth:
        if faults := [*self._depth_faults(), *self._other_faults()]:
            raise RefusedInput(faults)
        return self

    def _depth_faults(self) -> Iterator[Fault]:
        if any(low >= high for low, high in pairwise(self.depths)):
            yield Fault("depths", self.depths, "layers that increase from lesson to lesson")
        if self.depths and self.depths[-1] != self.from_scratch.layers:
            yield Fault("depths", self.depths, f"a last depth of from_scratch.layers {self.from_scratch.layers}")
        if self.depths and len(self.boundaries) != len(self.depths) - 1:
            wanted = f"{len(self.depths) - 1} places, one between each two of the {len(self.depths)} depths"
            yield Fault("boundaries", self.boundaries, wanted)
        if self.draws_depths and self.operator not in (None, *get_args(SharingMap)):
            wanted = "interpolate or stack, since sampled depths share layers by the order in which they are copied"
            yield Fault("operator", self.operator, f"{wanted}; or sampling: none")

    def _other_faults(self) -> Iterator[Fault]:
        if self.budget.epochs is not None:
            yield Fault("budget.epochs", self.budget.epochs, "tokens or steps, which boundaries divide")
        if self.optimizer.part is not None:
            yield Fault("optimizer.part", "given", "leave it out; the recipe divides one schedule")
        if self.draws_depths and self.zero_level == "parameters":
            reason = "parameters gathers each layer by the order of the pass before, and drawn depths change that order"
            yield Fault("zero_level", self.zero_level, f"none, optimizer or gradients: {reason}; or sampling: none")
        if self.gate.perplexity_ratio is not None and not self.baseline:
            yield Fault("baseline", self.baseline, "true, as gate.perplexity_ratio compares with it; or no such gate")
