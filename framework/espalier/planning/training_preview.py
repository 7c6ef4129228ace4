"""Preview of training stages: steps, tokens, FLOPs, memory and disk."""

from __future__ import annotations

from dataclasses import replace

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.kind import KINDS
from espalier.jobs.trained_stage import TrainedStage
from espalier.models.families import layout, num_parameters, shape_of
from espalier.models.flops import model_flops, read_share, trained_flops
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart
from espalier.planning.memory import Training, WorkerMemory, student_memory, teacher_memory
from espalier.planning.preview import MASTER_AND_MOMENTS_BYTES, Asked, StagePreview


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """Preview a training stage; a `teacher` that is a model runs at every step."""
    config = base.stage.config
    assert isinstance(config, TrainedStage)
    teacher = getattr(config, "teacher", None)
    return trained(asked, base, config, teacher=asked.seen[teacher].config if teacher else None)


def trained(
    asked: Asked,
    base: StagePreview,
    config: TrainedStage,
    *,
    teacher: ConfigDict | None = None,
    depths: tuple[float, int] | None = None,
) -> StagePreview:
    """Compute steps, tokens, FLOPs, memory and disk of a training.

    Args:
        teacher: the configuration of a model that runs at every step.
        depths: mean and largest number of layers of a pass; the model's when left out.
    """
    base = replace(base, trained=_trained_part(base, config, teacher))
    length, num_samples = asked.data_of(config).sequence_tokens, asked.samples_of(config)
    if config.budget.epochs is not None and num_samples is None:
        return base  # the number of sequences would need reading the text
    steps = config.budget.num_steps(
        sequences=config.batch.sequences, sequence_tokens=length, num_samples=num_samples or 1
    )
    samples = steps * config.batch.sequences
    share = read_share(base.config, config.masked_share)
    flops = trained_flops(
        base.config,
        tokens=samples * length,
        sequence_tokens=length,
        layers=depths[0] if depths else shape_of(base.config).layers,
        read_share=share,
        activation_checkpointing=config.activation_checkpointing,
        part=base.trained,
    )
    if teacher is not None:
        flops += model_flops(teacher, tokens=samples * length, sequence_tokens=length, read_share=share)
    held = base.trained.num_parameters if base.trained else base.parameters
    folded = sum(layout(base.config)[name].num_elements for name in (base.trained.folded if base.trained else ()))
    kept = min(config.checkpoint.keep_latest, max(1, steps // config.checkpoint.every)) + 1  # and one being written
    return replace(
        base,
        steps=steps,
        samples=samples,
        tokens=samples * length,
        flops=flops,
        memory=_memory(asked, base, config, teacher, most_layers=depths[1] if depths else None),
        bytes_on_disk=kept * MASTER_AND_MOMENTS_BYTES * held + 4 * folded,
    )


def _trained_part(base: StagePreview, config: TrainedStage, teacher: ConfigDict | None) -> TrainedPart | None:
    part: TrainedPart | None = KINDS[config.kind].call("trains")(config, base.config, teacher)
    if part is not None and not part.num_parameters:
        raise RefusedInput([Fault(f"stages.{config.name}", config.kind, "settings with which something is trained")])
    return part


def _memory(
    asked: Asked, base: StagePreview, config: TrainedStage, teacher: ConfigDict | None, *, most_layers: int | None
) -> WorkerMemory:
    workers = asked.job.workers
    training = Training(
        zero_level=config.zero_level,
        ranks=workers.fewest,  # a share of the model is largest then
        value_bytes=asked.value_bytes,
        microbatch_tokens=config.batch.microbatch_sequences * asked.data_of(config).sequence_tokens,
        on_gpu=workers.gpus_each > 0,
        activation_checkpointing=config.activation_checkpointing,
        offload=config.optimizer.offload,
        has_teacher=teacher is not None,
    )
    shape = shape_of(base.config).cut(layers=most_layers)
    memory = student_memory(shape, base.parameters, training, base.trained)
    if teacher is None:
        return memory
    of_teacher = teacher_memory(
        shape_of(teacher),
        num_parameters(teacher),
        zero_level=getattr(config, "teacher_zero_level", "none"),
        ranks=workers.fewest,
        value_bytes=asked.value_bytes,
    )
    return replace(memory, teacher=of_teacher)
