"""Recipe `progressive_growth`: train a shallow model, grow it, train on, under one learning-rate schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import Config, Count, FormerName, Share, parse_tuple
from espalier.config.exact import rounded_part
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import DepthOperator, DepthSampler, DepthSamplingConfig, FromScratch, NewMoments, SharingMap
from espalier.config.training import (
    BatchConfig,
    BudgetConfig,
    CheckpointConfig,
    GuardConfig,
    OptimizerConfig,
    SchedulePart,
    ZeroLevel,
)
from espalier.jobs.recipe import Recipe
from espalier.jobs.stage import StageSettings
from espalier.kinds.evaluate.kind import EvaluateStage, GateConfig, Prompt
from espalier.kinds.export.kind import ExportStage
from espalier.kinds.grow.kind import GrowStage, GrowTarget, GrowthCheckConfig
from espalier.kinds.load.kind import LoadStage
from espalier.kinds.train.kind import TrainStage
from espalier.recipes.growth_presets import GrowthPreset, GrowthSchedule, preset_schedule


class ProgressiveGrowth(Config):
    """Settings of `progressive_growth`: train few layers first, more later.

    A preset gives depths, boundaries, sampling and operator; each can be set by itself. What our own measurements
    (60 M tokens, 27.5 M parameters, 12 layers) say: a WSD schedule matters more than growth; `late_stack` reaches the
    whole model's loss for the fewest FLOPs, 35 % less, and for 39 % less with 24 layers; `gradual_stack` ends lowest at
    equal tokens; `apollo` has the smallest jumps in loss and saves a tenth, better with `stack` than as published;
    `one_layer_to_full` needs a budget far larger than that.
    """

    name: Literal["progressive_growth"]
    from_scratch: FromScratch
    """The whole model; `layers` is the depth to reach."""
    preset: GrowthPreset = "late_stack"
    budget: BudgetConfig
    """Of all phases together."""
    batch: BatchConfig
    depths: Annotated[tuple[Count, ...], BeforeValidator(parse_tuple)] = ()
    """Layers of each phase, ascending; the last is the whole model's."""
    boundaries: Annotated[tuple[Share | Count, ...], BeforeValidator(parse_tuple)] = ()
    """Where each phase but the last ends, from the start of the budget: a share of it (0.25), or tokens (5M)."""
    sampling: DepthSampler | Literal["none"] | None = None
    """How depths above the phase's own are sampled; `none` turns depth sampling off."""
    operator: DepthOperator | None = None
    new_moments: NewMoments = "copied"
    optimizer_state: Literal["fresh", "keep"] = "keep"
    """Whether the optimizer's moments are kept from phase to phase."""
    optimizer: OptimizerConfig = OptimizerConfig(lr=1e-3, schedule="wsd", warmup=0.02, decay=0.2)
    """One schedule over all phases. With `one_layer_to_full` wsd has a decay of 0.1 where none is given."""
    rewarm: Share = 0.0
    """The share of each phase but the first in which the rate rises again."""
    baseline: bool = False
    """Also train the whole model from its first step with the same budget, to compare with."""
    zero_level: ZeroLevel = "gradients"
    activation_checkpointing: bool = False
    masked_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    growth_check: Annotated[GrowthCheckConfig, FormerName("seam")] = GrowthCheckConfig()
    evaluation_sequences: Count | None = None
    prompts: Annotated[tuple[Prompt, ...], BeforeValidator(parse_tuple)] = ()
    gate: GateConfig = GateConfig()
    export_dtype: Literal["float32", "bfloat16"] = "bfloat16"

    @property
    def samples_depths(self) -> bool:
        """Whether phases use depth sampling: where `sampling` says so, and by default in `apollo`."""
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
            yield Fault("depths", self.depths, "layers that increase from phase to phase")
        if self.depths and self.depths[-1] != self.from_scratch.layers:
            yield Fault("depths", self.depths, f"a last depth of from_scratch.layers {self.from_scratch.layers}")
        if self.depths and len(self.boundaries) != len(self.depths) - 1:
            wanted = f"{len(self.depths) - 1} places, one between each two of the {len(self.depths)} depths"
            yield Fault("boundaries", self.boundaries, wanted)
        if self.samples_depths and self.operator not in (None, *get_args(SharingMap)):
            wanted = "interpolate or stack, since sampled depths share layers by the order in which they are copied"
            yield Fault("operator", self.operator, f"{wanted}; or sampling: none")

    def _other_faults(self) -> Iterator[Fault]:
        if self.budget.epochs is not None:
            yield Fault("budget.epochs", self.budget.epochs, "tokens or steps, which boundaries divide")
        if self.optimizer.part is not None:
            yield Fault("optimizer.part", "given", "leave it out; the recipe divides one schedule")
        if self.samples_depths and self.zero_level == "parameters":
            reason = "parameters gathers layers in the order of the pass before, and depth sampling changes that order"
            yield Fault("zero_level", self.zero_level, f"none, optimizer or gradients: {reason}; or sampling: none")
        if self.gate.perplexity_ratio is not None and not self.baseline:
            yield Fault("baseline", self.baseline, "true, as gate.perplexity_ratio compares with it; or no such gate")


def stages(dials: ProgressiveGrowth, sequence_tokens: int) -> tuple[StageSettings, ...]:
    """start -> layers_3 -> grow_6 -> layers_6 -> ... -> scores (beside the baseline) -> exported.

    Raises:
        RefusedInput: boundaries that do not ascend inside the budget.
    """
    total = dials.budget.num_steps(sequences=dials.batch.sequences, sequence_tokens=sequence_tokens, num_samples=1)
    schedule = _schedule(dials, total, sequence_tokens)
    ends = [*_boundary_steps(dials, schedule, total, sequence_tokens), total]
    made: list[StageSettings] = [_begin("start", dials, schedule.depths[0])]
    for number, depth in enumerate(schedule.depths):
        if number:
            made.append(_growth(dials, schedule, depth, after=made[-1].name))
        begin = ends[number - 1] if number else 0
        made.append(_phase(dials, schedule, number, student=made[-1].name, steps=(begin, ends[number], total)))
    grown = made[-1].name
    against: tuple[str, ...] = ()
    if dials.baseline:
        made += [_begin("baseline_start", dials, dials.from_scratch.layers), _baseline(dials, total)]
        against = ("baseline",)
    scores = EvaluateStage(
        name="scores",
        kind="evaluate",
        model=grown,
        against=against,
        sequences=dials.evaluation_sequences,
        prompts=dials.prompts,
        masked_share=dials.masked_share,
        gate=dials.gate,
    )
    return (*made, scores, ExportStage(name="exported", kind="export", model=grown, dtype=dials.export_dtype))


def _schedule(dials: ProgressiveGrowth, total: int, sequence_tokens: int) -> GrowthSchedule:
    """The preset's schedule, with what the dials set by themselves."""
    tokens = total * dials.batch.sequences * sequence_tokens
    schedule = preset_schedule(dials.preset, dials.from_scratch, budget_tokens=tokens)
    if dials.depths:
        schedule = replace(schedule, depths=dials.depths)
    if dials.sampling is not None:
        schedule = replace(schedule, sampling=None if dials.sampling == "none" else dials.sampling)
    if dials.operator is not None:
        schedule = replace(schedule, operator=dials.operator)
    return schedule


def _boundary_steps(dials: ProgressiveGrowth, schedule: GrowthSchedule, total: int, sequence_tokens: int) -> list[int]:
    """Steps at which phases but the last end, counted from the first step of the first phase."""
    given = dials.boundaries or schedule.boundaries
    step_tokens = dials.batch.sequences * sequence_tokens
    steps = [rounded_part(place, total) if isinstance(place, float) else place // step_tokens for place in given]
    if len(given) != len(schedule.depths) - 1:
        wanted = f"{len(schedule.depths) - 1} places, between the depths {', '.join(map(str, schedule.depths))}"
        raise RefusedInput([Fault("recipe.boundaries", given, wanted)])
    if any(low >= high for low, high in pairwise([0, *steps, total])):
        wanted = (
            f"places that ascend inside the budget of {total} steps, at least a step apart; these are steps {steps}"
        )
        raise RefusedInput([Fault("recipe.boundaries", given, wanted)])
    return steps


def _begin(name: str, dials: ProgressiveGrowth, layers: int) -> LoadStage:
    shape = FromScratch.model_validate(dials.from_scratch.model_dump() | {"layers": layers})
    return LoadStage(name=name, kind="load", from_scratch=shape)


def _growth(dials: ProgressiveGrowth, schedule: GrowthSchedule, depth: int, *, after: str) -> GrowStage:
    return GrowStage(
        name=f"grow_{depth}",
        kind="grow",
        student=after,
        target=GrowTarget(layers=depth),
        operator=schedule.operator,
        new_moments=dials.new_moments,
        growth_check=dials.growth_check,
    )


def _phase(
    dials: ProgressiveGrowth, schedule: GrowthSchedule, number: int, *, student: str, steps: tuple[int, int, int]
) -> TrainStage:
    """The training stage of one phase.

    Args:
        steps: its first step, the step after its last, and the steps of all phases.
    """
    begin, end, total = steps
    depth, is_last = schedule.depths[number], number == len(schedule.depths) - 1
    sampling = None
    if schedule.sampling is not None and not is_last:
        sampling = DepthSamplingConfig(
            depth=schedule.depths[-1], sampler=schedule.sampling, order=schedule.shared_order
        )
    part = SchedulePart(start=begin / total, end=end / total, rewarm=dials.rewarm if number else 0.0)
    return _trained(
        dials,
        name=f"layers_{depth}",
        student=student,
        budget=BudgetConfig(steps=end - begin),
        optimizer=dials.optimizer.model_copy(update={"part": part if len(schedule.depths) > 1 else None}),
        optimizer_state=dials.optimizer_state if number else "fresh",
        depth_sampling=sampling,
    )


def _baseline(dials: ProgressiveGrowth, total: int) -> TrainStage:
    budget = BudgetConfig(steps=total)
    return _trained(dials, name="baseline", student="baseline_start", budget=budget, optimizer=dials.optimizer)


def _trained(dials: ProgressiveGrowth, **settings: Any) -> TrainStage:
    return TrainStage(
        kind="train",
        batch=dials.batch,
        zero_level=dials.zero_level,
        activation_checkpointing=dials.activation_checkpointing,
        masked_share=dials.masked_share,
        checkpoint=dials.checkpoint,
        guard=dials.guard,
        **settings,
    )


_RENAMED = {
    "sequences": "evaluation_sequences",
    "dtype": "export_dtype",
    "target": "depths",
    "depth_sampling": "sampling",
}
RECIPE = Recipe("progressive_growth", ProgressiveGrowth, stages, _RENAMED)
