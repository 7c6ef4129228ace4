"""What a plan will do and cost, from shapes alone: nothing is loaded, nothing starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from espalier.config.growth import GrowStage
from espalier.config.job import Job
from espalier.config.stages import (
    CorrectStage,
    CrossFitStage,
    DistillStage,
    EvaluateStage,
    ExportStage,
    PruneStage,
    StageConfig,
    TrainedStage,
    TrainStage,
)
from espalier.models.families import layout, num_outputs, num_parameters, resized, shape_of, tuned_names
from espalier.models.flops import model_flops, read_share, trained_flops
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart
from espalier.planning.memory import Training, WorkerMemory, student_memory, teacher_memory
from espalier.planning.sources import Source
from espalier.stages.plan import CODE_VERSION, Plan, Stage
from espalier.surgery.growth import planned_growth
from espalier.surgery.lessons import mean_depth
from espalier.surgery.search import find_shape

MASTER_AND_MOMENTS_BYTES = 12
"""A training checkpoint holds three float32 values a parameter."""


@dataclass(frozen=True)
class StagePreview:
    """One stage before it runs.

    Attributes:
        config: of the model that comes out, or that is measured or written.
        makes_model: whether the stage's output is a model of its own.
        steps, samples, tokens: of the whole stage; an evaluation that reads all of a text says None.
        flops: teacher, importance passes and evaluation included; None where the text decides.
        memory: of one worker of a stage that trains.
        bytes_on_disk: what the stage leaves behind at most.
        trained_parameters: of a stage that trains a part of the model; None elsewhere.
    """

    stage: Stage
    parent: str
    config: ConfigDict
    makes_model: bool
    steps: int | None = None
    samples: int | None = None
    tokens: int | None = None
    flops: float | None = None
    memory: WorkerMemory | None = None
    bytes_on_disk: int = 0
    trained_parameters: int | None = None

    @property
    def parameters(self) -> int:
        return num_parameters(self.config)

    def to_json(self) -> dict[str, Any]:
        """An entry of plan.json."""
        shape = {k: v for k, v in asdict(shape_of(self.config)).items() if isinstance(v, int)}
        return {
            "name": self.stage.name,
            "kind": self.stage.config.kind,
            "key": self.stage.key,
            "code_version": CODE_VERSION,
            "parent": self.parent,
            "inputs": self.stage.config.inputs(),
            "shape": shape | {"parameters": self.parameters} if self.makes_model else {},
            "steps": self.steps,
            "samples": self.samples,
            "tokens": self.tokens,
            "flops": self.flops,
            "memory": asdict(self.memory) | {"total": self.memory.total} if self.memory else None,
            "bytes_on_disk": self.bytes_on_disk,
            **({} if self.trained_parameters is None else {"trained_parameters": self.trained_parameters}),
        }


def preview(
    job: Job, plan: Plan, sources: Mapping[str, Source], *, value_bytes: int, num_samples: int | None = None
) -> tuple[StagePreview, ...]:
    """Every stage of the plan, in order.

    Args:
        value_bytes: of one weight while computing: 2 in bfloat16, 4 in float32.
        num_samples: of the training side; None where only reading the text tells.

    Raises:
        RefusedInput: a target that cannot be reached.
    """
    seen: dict[str, StagePreview] = {}
    for stage in plan.stages:
        seen[stage.name] = _preview(_Asked(job, plan, value_bytes, num_samples), stage, seen, sources)
    return tuple(seen.values())


@dataclass(frozen=True)
class _Asked:
    """What all stages of a job are previewed under."""

    job: Job
    plan: Plan
    value_bytes: int
    num_samples: int | None


def _preview(
    asked: _Asked, stage: Stage, seen: Mapping[str, StagePreview], sources: Mapping[str, Source]
) -> StagePreview:
    config, parent = stage.config, asked.plan.parent(stage.name).name
    model = sources[stage.name].config if stage.name in sources else seen[stage.inputs[0]].config
    base = StagePreview(stage, parent, model, makes_model=True, bytes_on_disk=4 * num_parameters(model))
    match config:
        case GrowStage():
            moments = moments_of(asked.plan, config.student, {name: one.config for name, one in seen.items()})
            return _grown(config, base, with_moments=moments == layout(model).keys())
        case PruneStage():
            return _pruned(asked.job, config, base)
        case DistillStage() | CorrectStage():
            return _trained(asked, config, base, teacher=seen[config.teacher].config if config.teacher else None)
        case TrainStage():
            return _trained(asked, config, base, teacher=None)
        case CrossFitStage():
            return _cross_fitted(_trained(asked, config, base, teacher=None), config, asked.num_samples)
        case EvaluateStage():
            return _evaluated(asked.job, config, base, [seen[name].config for name in (config.model, *config.against)])
        case ExportStage():
            value = 2 if config.dtype == "bfloat16" else 4
            return replace(base, makes_model=False, bytes_on_disk=value * base.parameters)
    return base


def _grown(config: GrowStage, base: StagePreview, *, with_moments: bool) -> StagePreview:
    growth = planned_growth(config, base.config)
    value = MASTER_AND_MOMENTS_BYTES if with_moments else 4
    return replace(base, config=growth.config, bytes_on_disk=value * num_parameters(growth.config))


def moments_of(plan: Plan, name: str, models: Mapping[str, ConfigDict]) -> frozenset[str]:
    """Names of the parameters that come with an optimizer's moments from a stage: what it trained, or what it was grown
    from, if all of that was trained.

    Args:
        models: configurations that stages come to, those before it at least.
    """
    config: StageConfig = plan[name].config
    every = frozenset(layout(models[name]))
    if isinstance(config, DistillStage | TrainStage | CorrectStage):
        trained = tuned_names(models[name], config.tune, path=f"stages.{name}.tune")
        return every if trained is None else trained
    if isinstance(config, GrowStage):
        grown_from = moments_of(plan, config.student, models)
        return every if grown_from == layout(models[config.student]).keys() else frozenset()
    return frozenset()


def _mean_depth(config: TrainedStage, model: ConfigDict) -> float:
    """Layers that a pass runs; with lessons what their draws come to in the mean."""
    held = shape_of(model).layers
    lessons = config.lessons if isinstance(config, TrainStage) else None
    if lessons is None or lessons.depth < held:
        return held
    return mean_depth(lessons.sampler, held=held, depth=lessons.depth)


def _pruned(job: Job, config: PruneStage, base: StagePreview) -> StagePreview:
    shape = find_shape(base.config, config.target, config.search, path=f"stages.{config.name}.target")
    child = resized(base.config, shape)
    samples, length = config.calibration.samples, job.data.sequence_tokens
    flops = 0.0 if config.scores else model_flops(base.config, tokens=samples * length, sequence_tokens=length)
    made = replace(base, config=child, bytes_on_disk=4 * num_parameters(child), flops=flops)
    return made if config.scores else replace(made, samples=samples, tokens=samples * length)


def _trained(asked: _Asked, config: TrainedStage, base: StagePreview, *, teacher: ConfigDict | None) -> StagePreview:
    job, value_bytes, length = asked.job, asked.value_bytes, asked.job.data.sequence_tokens
    trained = tuned_names(base.config, config.tune, path=f"stages.{config.name}.tune")
    part = None if trained is None else TrainedPart.of(base.config, trained)
    base = replace(base, trained_parameters=part.num_parameters if part else None)
    if config.budget.epochs is not None and asked.num_samples is None:
        return base  # only reading the text tells how many sequences it is
    steps = config.budget.num_steps(
        sequences=config.batch.sequences, sequence_tokens=length, num_samples=asked.num_samples or 1
    )
    samples = steps * config.batch.sequences
    share = read_share(base.config, config.masked_share)
    flops = trained_flops(
        base.config,
        tokens=samples * length,
        sequence_tokens=length,
        layers=_mean_depth(config, base.config),
        read_share=share,
        activation_checkpointing=config.activation_checkpointing,
        trained=trained,
    )
    training = Training(
        zero_level=config.zero_level,
        ranks=job.workers.count,
        value_bytes=value_bytes,
        microbatch_tokens=config.batch.microbatch_sequences * length,
        on_gpu=job.workers.gpus_each > 0,
        activation_checkpointing=config.activation_checkpointing,
        offload=config.optimizer.offload,
    )
    lessons = config.lessons if isinstance(config, TrainStage) else None
    shape = shape_of(base.config).cut(layers=lessons.depth if lessons else None)  # the deepest pass that may be drawn
    memory = student_memory(shape, base.parameters, training, part)
    if teacher is not None and isinstance(config, DistillStage | CorrectStage):
        flops += model_flops(teacher, tokens=samples * length, sequence_tokens=length, read_share=share)
        memory = replace(
            memory,
            teacher=teacher_memory(
                shape_of(teacher),
                num_parameters(teacher),
                zero_level=config.teacher_zero_level,
                ranks=job.workers.count,
                value_bytes=value_bytes,
            ),
        )
    kept = min(config.checkpoint.keep_latest, max(1, steps // config.checkpoint.every)) + 1  # one is being written
    on_disk = kept * MASTER_AND_MOMENTS_BYTES * (part.num_parameters if part else base.parameters)
    return replace(
        base,
        steps=steps,
        samples=samples,
        tokens=samples * length,
        flops=flops,
        memory=memory,
        bytes_on_disk=on_disk,
    )


def _cross_fitted(twin: StagePreview, config: CrossFitStage, num_samples: int | None) -> StagePreview:
    """As many such trainings, each on all folds but one; what is kept are the answers."""
    if twin.steps is None or num_samples is None:
        return replace(twin, makes_model=False)
    share = config.repeats * (config.folds - 1)
    return replace(
        twin,
        makes_model=False,
        steps=None,
        samples=twin.samples * share,
        tokens=twin.tokens * share,
        flops=twin.flops * share,
        bytes_on_disk=2 * 4 * num_samples * num_outputs(twin.config),
    )


def _evaluated(job: Job, config: EvaluateStage, base: StagePreview, models: list[ConfigDict]) -> StagePreview:
    """`models` are the one evaluated, which may be unrolled, and those of `against`."""
    plain = replace(base, makes_model=False, bytes_on_disk=0)
    if config.sequences is None:
        return plain
    length = job.data.sequence_tokens
    tokens = config.sequences * length
    depths = [config.unrolled.depth if config.unrolled else None, *[None] * len(config.against)]
    flops = sum(
        model_flops(
            model,
            tokens=tokens,
            sequence_tokens=length,
            layers=depth,
            read_share=read_share(model, config.masked_share),
        )
        for model, depth in zip(models, depths, strict=True)
    )
    return replace(plain, samples=config.sequences * len(models), tokens=tokens * len(models), flops=flops)
