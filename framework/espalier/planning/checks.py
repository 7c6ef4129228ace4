"""What cannot work, found before anything starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from espalier.config.faults import Fault
from espalier.config.growth import DepthOperator, GrowStage, SharingMap
from espalier.config.job import Job
from espalier.config.labelled import LabelledConfig
from espalier.config.stages import (
    CorrectStage,
    CrossFitStage,
    DistillStage,
    EvaluateStage,
    LoadStage,
    TrainedStage,
    TrainStage,
)
from espalier.models.architecture import is_masked_lm
from espalier.models.families import is_causal, layout, shape_of, tuned_names
from espalier.models.shape import ConfigDict
from espalier.models.tokenizer_difference import difference
from espalier.planning.preview import StagePreview, moments_of
from espalier.planning.sources import Source
from espalier.stages.plan import Plan

_ORDERS: dict[DepthOperator, SharingMap] = {"interpolate": "interpolate", "identity": "interpolate", "stack": "stack"}
"""Operator -> the order of lessons in which layers stand where it puts them; others have none."""


def plan_faults(job: Job, plan: Plan, previews: Sequence[StagePreview], sources: dict[str, Source]) -> Iterator[Fault]:
    """Every reason why this plan would fail or lose work later."""
    yield from dict.fromkeys(_too_long(job, previews))
    for preview in previews:
        config = preview.stage.config
        if isinstance(config, TrainedStage):
            path = f"stages.{config.name}"
            yield from _no_head(job, preview, path=path)
            yield from _growth_faults(config, plan, previews)
            if config.optimizer.offload and not job.workers.gpus_each:
                yield Fault(f"{path}.optimizer.offload", True, "false on CPU workers: their memory is the host's")
            if config.optimizer.offload and config.zero_level == "none":
                yield Fault(f"{path}.optimizer.offload", True, "with zero_level optimizer, gradients or parameters")
        if isinstance(config, DistillStage | CorrectStage | EvaluateStage):
            yield from _other_words(job, config, previews, sources)
        if isinstance(config, EvaluateStage):
            yield from _no_head(job, preview, path=f"stages.{config.name}")
            yield from _not_to_be_unrolled(config, preview)
        if isinstance(config, GrowStage):
            yield from _lessons_in_vain(config, previews)
    yield from _no_room(job, previews)


def _no_head(job: Job, preview: StagePreview, *, path: str) -> Iterator[Fault]:
    family = shape_of(preview.config).family
    if family == "bert" and not isinstance(job.data, LabelledConfig) and not is_masked_lm(preview.config):
        allowed = "a language model, causal or masked; a bare encoder learns from labelled data (data.task)"
        yield Fault(f"{path}", family, allowed)


def _growth_faults(config: TrainedStage, plan: Plan, previews: Sequence[StagePreview]) -> Iterator[Fault]:
    path, models = f"stages.{config.name}", {preview.stage.name: preview.config for preview in previews}
    if config.optimizer_state == "keep":
        trained = tuned_names(models[config.name], config.tune) or layout(models[config.name]).keys()
        moments = moments_of(plan, config.student, models)
        if not moments:
            reason = "it was not trained here, or only in part before it grew"
            wanted = f"fresh, as the model of stage {config.student} has no optimizer's moments: {reason}"
            yield Fault(f"{path}.optimizer_state", "keep", wanted)
        elif missing := sorted(trained - moments):
            wanted = f"fresh, as stage {config.student} trained a part that {missing[0]} is not in"
            yield Fault(f"{path}.optimizer_state", "keep", wanted)
    lessons = config.lessons if isinstance(config, TrainStage) else None
    held = shape_of(models[config.name]).layers
    if lessons is not None and lessons.depth < held:
        yield Fault(f"{path}.lessons.depth", lessons.depth, f"at least the {held} layers of the model")


def _not_to_be_unrolled(config: EvaluateStage, preview: StagePreview) -> Iterator[Fault]:
    path, held = f"stages.{config.name}", shape_of(preview.config).layers
    if config.unrolled is not None and config.unrolled.depth < held:
        yield Fault(f"{path}.unrolled.depth", config.unrolled.depth, f"at least the {held} layers of the model")
    if config.prompts and (config.unrolled is not None or is_masked_lm(preview.config)):
        wanted = "none: a masked language model does not write on, nor does one that is unrolled"
        yield Fault(f"{path}.prompts", config.prompts[0], wanted)


def _lessons_in_vain(config: GrowStage, previews: Sequence[StagePreview]) -> Iterator[Fault]:
    """Lessons make layers ready to be copied in one order; copies in another would undo that."""
    models = {preview.stage.name: preview for preview in previews}
    before, after = (shape_of(models[name].config).layers for name in (config.student, config.name))
    trained, own = models[config.student].stage.config, _ORDERS.get(config.operator)
    lessons = trained.lessons if isinstance(trained, TrainStage) else None
    if lessons is None or after == before or lessons.order == own:
        return
    wanted = f"{lessons.order}, the order in which the lessons of stage {trained.name} shared its layers"
    other = f"; or {own} as stages.{trained.name}.lessons.order" if own else ""
    yield Fault(f"stages.{config.name}.operator", config.operator, wanted + other)


def _too_long(job: Job, previews: Sequence[StagePreview]) -> Iterator[Fault]:
    """Asked where a model begins, as nothing changes its positions later. The same fault may come from each `load`."""
    length = job.data.sequence_tokens
    for preview in previews:
        config = preview.stage.config
        if not isinstance(config, LoadStage):
            continue
        scratch, known = config.from_scratch, shape_of(preview.config).positions
        if scratch is not None and scratch.positions < length:
            place = "recipe" if job.recipe is not None else f"stages.{config.name}"
            wanted = f"at least {length}, as data.sequence_tokens says"
            yield Fault(f"{place}.from_scratch.positions", scratch.positions, wanted)
        elif known and known < length:
            wanted = f"at most the {known} positions that the model of stage {config.name} knows"
            yield Fault("data.sequence_tokens", length, wanted)


def _other_words(
    job: Job,
    config: DistillStage | CorrectStage | EvaluateStage,
    previews: Sequence[StagePreview],
    sources: dict[str, Source],
) -> Iterator[Fault]:
    """Models that are asked with the token ids of the stage's first input and would take them for something else."""
    models = {preview.stage.name: preview for preview in previews}
    (_, own), *asked = config.inputs().items()
    for setting, name in asked:
        if isinstance(models[name].stage.config, CrossFitStage):  # it has answered already, with its own ids
            continue
        one, other = models[own], models[name]
        sizes = shape_of(one.config).vocabulary, shape_of(other.config).vocabulary
        has_labels, path = isinstance(job.data, LabelledConfig), f"stages.{config.name}.{setting}"
        instead = _instead(config, has_labels=has_labels)
        if setting == "teacher" and not has_labels and sizes[0] != sizes[1]:
            yield Fault(path, name, f"a model with the student's vocabulary of {sizes[0]}; it has {sizes[1]}")
        elif unlike := _unlike(sources[one.parent], sources[other.parent], own, with_labels=has_labels):
            yield Fault(path, name, unlike + instead)
        elif has_labels and is_causal(one.config) != is_causal(other.config):
            kind, read = ("a decoder", "last") if is_causal(one.config) else ("an encoder", "first")
            yield Fault(path, name, f"{kind}, as {own} is: its head reads the {read} token{instead}")
        elif has_labels and is_causal(one.config) and len(pads := _pads(one.config, other.config)) > 1:
            wanted = f"a model whose pad_token_id is {pads[0]}, as {own}'s: the head reads the last other token"
            yield Fault(path, name, f"{wanted}{instead}")


def _pads(*configs: ConfigDict) -> list[object]:
    return list(dict.fromkeys(config.get("pad_token_id") for config in configs))


def _unlike(own: Source, other: Source, name: str, *, with_labels: bool) -> str | None:
    """What a model would have to have to be asked with the tokens of `name`; None where it has that."""
    wanted = f"a model with the tokenizer of {name}"
    if own.tokenizer is None or other.tokenizer is None:  # the same settings make the same of the same text
        made_alike = own.tokenizer is other.tokenizer and own.config["vocab_size"] == other.config["vocab_size"]
        return None if made_alike else f"{wanted}, whose ids mean other words to this one"
    unlike = difference(own.tokenizer, other.tokenizer)
    if unlike == "words":
        return f"{wanted}, whose ids mean other words to this one"
    if unlike == "cuts":
        return f"{wanted}; this one's has the same words, and cuts text into others of them"
    if unlike == "samples" and with_labels:
        return f"{wanted}; this one's puts other special tokens around a text"
    return None


def _instead(config: DistillStage | CorrectStage | EvaluateStage, *, has_labels: bool) -> str:
    if isinstance(config, EvaluateStage):
        return "; or measure it in an evaluate stage of its own"
    return "; or a cross_fit stage of it" if has_labels and isinstance(config, CorrectStage) else ""


def storage_bytes(job: Job, previews: Sequence[StagePreview]) -> int:
    """What the run leaves below `storage` at most: states do not lie there when `checkpoints` names another place."""
    elsewhere = job.checkpoints is not None
    return sum(one.bytes_on_disk for one in previews if one.stage.config.kind == "export" or not elsewhere)


def _no_room(job: Job, previews: Sequence[StagePreview]) -> Iterator[Fault]:
    needed = storage_bytes(job, previews)
    there = Path(job.storage)
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK) or free == 0:
        yield Fault("storage", job.storage, f"a folder that can be made and written to; {there} cannot be")
    elif needed > free:
        wanted = f"a place with {needed / 2**30:,.3f} GiB free; there are {free / 2**30:,.3f}"
        yield Fault("storage", job.storage, wanted)
