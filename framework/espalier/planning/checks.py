"""What cannot work, found before anything starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from espalier.config.faults import Fault
from espalier.config.job import Job
from espalier.config.labelled import LabelledConfig
from espalier.config.stages import CorrectStage, DistillStage, EvaluateStage, TrainedStage, TrainStage
from espalier.models.architecture import is_masked_lm
from espalier.models.families import shape_of
from espalier.planning.preview import StagePreview, has_moments
from espalier.planning.sources import Source
from espalier.stages.plan import Plan


def plan_faults(job: Job, plan: Plan, previews: Sequence[StagePreview], sources: dict[str, Source]) -> Iterator[Fault]:
    """Every reason why this plan would fail or lose work later."""
    for preview in previews:
        yield from _too_long(job, preview)
        config = preview.stage.config
        if isinstance(config, TrainedStage):
            path = f"stages.{config.name}"
            yield from _no_head(job, preview, path=path)
            yield from _growth_faults(config, plan, preview)
            if config.optimizer.offload and not job.workers.gpus_each:
                yield Fault(f"{path}.optimizer.offload", True, "false on CPU workers: their memory is the host's")
            if config.optimizer.offload and config.zero_level == "none":
                yield Fault(f"{path}.optimizer.offload", True, "with zero_level optimizer, gradients or parameters")
        if isinstance(config, DistillStage) or (isinstance(config, CorrectStage) and _is_text_teacher(job, config)):
            yield from _other_words(config, previews, sources)
        if isinstance(config, EvaluateStage):
            yield from _no_head(job, preview, path=f"stages.{config.name}")
            yield from _not_to_be_unrolled(config, preview)
    yield from _no_room(job, previews)


def _no_head(job: Job, preview: StagePreview, *, path: str) -> Iterator[Fault]:
    family = shape_of(preview.config).family
    if family == "bert" and not isinstance(job.data, LabelledConfig) and not is_masked_lm(preview.config):
        allowed = "a language model, causal or masked; a bare encoder learns from labelled data (data.task)"
        yield Fault(f"{path}", family, allowed)


def _is_text_teacher(job: Job, config: CorrectStage) -> bool:
    return config.teacher is not None and not isinstance(job.data, LabelledConfig)


def _growth_faults(config: TrainedStage, plan: Plan, preview: StagePreview) -> Iterator[Fault]:
    path = f"stages.{config.name}"
    if config.optimizer_state == "keep" and not has_moments(plan, config.student):
        wanted = f"fresh, as the model of stage {config.student} was not trained here and has no optimizer's moments"
        yield Fault(f"{path}.optimizer_state", "keep", wanted)
    lessons = config.lessons if isinstance(config, TrainStage) else None
    held = shape_of(preview.config).layers
    if lessons is not None and lessons.depth < held:
        yield Fault(f"{path}.lessons.depth", lessons.depth, f"at least the {held} layers of the model")


def _not_to_be_unrolled(config: EvaluateStage, preview: StagePreview) -> Iterator[Fault]:
    path, held = f"stages.{config.name}", shape_of(preview.config).layers
    if config.unrolled is not None and config.unrolled.depth < held:
        yield Fault(f"{path}.unrolled.depth", config.unrolled.depth, f"at least the {held} layers of the model")
    if config.prompts and (config.unrolled is not None or is_masked_lm(preview.config)):
        wanted = "none: a masked language model does not write on, nor does one that is unrolled"
        yield Fault(f"{path}.prompts", config.prompts[0], wanted)


def _too_long(job: Job, preview: StagePreview) -> Iterator[Fault]:
    positions = shape_of(preview.config).positions
    if positions and job.data.sequence_tokens > positions and preview.makes_model:
        wanted = f"at most the {positions} positions that the model of stage {preview.stage.name} knows"
        yield Fault("data.sequence_tokens", job.data.sequence_tokens, wanted)


def _other_words(
    config: DistillStage | CorrectStage, previews: Sequence[StagePreview], sources: dict[str, Source]
) -> Iterator[Fault]:
    models = {preview.stage.name: preview for preview in previews}
    student, teacher = models[config.student], models[config.teacher]
    sizes = shape_of(student.config).vocabulary, shape_of(teacher.config).vocabulary
    path = f"stages.{config.name}.teacher"
    if sizes[0] != sizes[1]:
        yield Fault(path, config.teacher, f"a model with the student's vocabulary of {sizes[0]}; it has {sizes[1]}")
    elif sources[student.parent].tokenizer != sources[teacher.parent].tokenizer:
        yield Fault(path, config.teacher, "a model with the student's tokenizer; the same ids mean other words here")


def _no_room(job: Job, previews: Sequence[StagePreview]) -> Iterator[Fault]:
    needed = sum(preview.bytes_on_disk for preview in previews)
    there = Path(job.storage)
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK) or free == 0:
        yield Fault("storage", job.storage, f"a folder that can be made and written to; {there} cannot be")
    elif needed > free:
        wanted = f"a place with {needed / 2**30:,.3f} GiB free; there are {free / 2**30:,.3f}"
        yield Fault("storage", job.storage, wanted)
