"""Lessons first, layers later: train a shallow model, grow it, train on, under one schedule."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from espalier.config.exact import rounded_part
from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import FromScratch, GrowStage, GrowTarget, LessonsConfig
from espalier.config.recipes import ProgressiveGrowth
from espalier.config.stages import EvaluateStage, ExportStage, LoadStage, StageConfig, TrainStage
from espalier.config.training import BudgetConfig, SchedulePart
from espalier.recipes.growth_presets import Lessons, preset_lessons


def stages(dials: ProgressiveGrowth, *, sequence_tokens: int) -> tuple[StageConfig, ...]:
    """start -> layers_3 -> grow_6 -> layers_6 -> ... -> scores (beside the baseline) -> exported.

    Raises:
        RefusedInput: boundaries that do not ascend inside the budget.
    """
    total = dials.budget.num_steps(sequences=dials.batch.sequences, sequence_tokens=sequence_tokens, num_samples=1)
    lessons = _lessons(dials, total, sequence_tokens)
    ends = [*_boundary_steps(dials, lessons, total, sequence_tokens), total]
    made: list[StageConfig] = [_begin("start", dials, lessons.depths[0])]
    for number, depth in enumerate(lessons.depths):
        if number:
            made.append(_growth(dials, lessons, depth, after=made[-1].name))
        begin = ends[number - 1] if number else 0
        made.append(_lesson(dials, lessons, number, student=made[-1].name, steps=(begin, ends[number], total)))
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


def _lessons(dials: ProgressiveGrowth, total: int, sequence_tokens: int) -> Lessons:
    tokens = total * dials.batch.sequences * sequence_tokens
    lessons = preset_lessons(dials.preset, dials.from_scratch, budget_tokens=tokens)
    if dials.depths:
        lessons = replace(lessons, depths=dials.depths)
    if dials.sampling is not None:
        lessons = replace(lessons, sampling=None if dials.sampling == "none" else dials.sampling)
    if dials.operator is not None:
        lessons = replace(lessons, operator=dials.operator)
    return lessons


def _boundary_steps(dials: ProgressiveGrowth, lessons: Lessons, total: int, sequence_tokens: int) -> list[int]:
    """Steps at which lessons end, counted from the first step of the first one."""
    given = dials.boundaries or lessons.boundaries
    step_tokens = dials.batch.sequences * sequence_tokens
    steps = [rounded_part(place, total) if isinstance(place, float) else place // step_tokens for place in given]
    if len(given) != len(lessons.depths) - 1:
        wanted = f"{len(lessons.depths) - 1} places, between the depths {', '.join(map(str, lessons.depths))}"
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


def _growth(dials: ProgressiveGrowth, lessons: Lessons, depth: int, *, after: str) -> GrowStage:
    return GrowStage(
        name=f"grow_{depth}",
        kind="grow",
        student=after,
        target=GrowTarget(layers=depth),
        operator=lessons.operator,
        new_moments=dials.new_moments,
        seam=dials.seam,
    )


def _lesson(
    dials: ProgressiveGrowth, lessons: Lessons, number: int, *, student: str, steps: tuple[int, int, int]
) -> TrainStage:
    """Lesson `number`, from step to step of how many."""
    begin, end, total = steps
    depth, is_last = lessons.depths[number], number == len(lessons.depths) - 1
    drawn = None
    if lessons.sampling is not None and not is_last:
        drawn = LessonsConfig(depth=lessons.depths[-1], sampler=lessons.sampling, order=lessons.operator)
    part = SchedulePart(start=begin / total, end=end / total, rewarm=dials.rewarm if number else 0.0)
    return _trained(
        dials,
        name=f"layers_{depth}",
        student=student,
        budget=BudgetConfig(steps=end - begin),
        optimizer=dials.optimizer.model_copy(update={"part": part if len(lessons.depths) > 1 else None}),
        optimizer_state=dials.optimizer_state if number else "fresh",
        lessons=drawn,
    )


def _baseline(dials: ProgressiveGrowth, total: int) -> TrainStage:
    budget = BudgetConfig(steps=total)
    return _trained(dials, name="baseline", student="baseline_start", budget=budget, optimizer=dials.optimizer)


def _trained(dials: ProgressiveGrowth, **settings: object) -> TrainStage:
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
