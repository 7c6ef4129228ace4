"""What cannot work with labelled data, or only works with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from espalier.config.base import Config, foreign
from espalier.config.exact import as_written
from espalier.config.faults import Fault, RefusedInput
from espalier.config.job import Job
from espalier.config.labelled import LabelledConfig
from espalier.config.losses import losses_that_compare
from espalier.config.stages import (
    CorrectStage,
    CrossFitStage,
    DistillStage,
    EvaluateStage,
    LoadStage,
    PruneStage,
    TrainedStage,
)
from espalier.data.examples import Labelled, first_places
from espalier.data.sample_weights import read_excluded, read_sample_weights
from espalier.stages.plan import Plan

_OF_LABELLED = (
    ("signal", "momentum"),
    ("weights", "measure"),
    ("weights", "predictions"),
    ("weights", "tolerance"),
    ("weights", "initial"),
    ("distrust", "exclude"),
    ("distrust", "rule"),
    ("distrust", "epochs"),
    ("distrust", "noise"),
    ("signal", "min_skill"),
    ("signal", "full_at_noise"),
)
_NOT_OF_TWINS = ("validation", "guard", "checkpoint", "optimizer_state")
_NOT_OF_ANSWERS = ("sequences", "unrolled")


def labelled_faults(job: Job, plan: Plan, labelled: Labelled | None) -> Iterator[Fault]:
    """Every stage that does not fit the kind of data."""
    kinds = {stage.name: stage.config.kind for stage in plan.stages}
    if isinstance(job.data, LabelledConfig) and labelled is not None:
        yield from _metric(job.data, labelled)
    for stage in plan.stages:
        path, config = f"stages.{stage.name}", stage.config
        if isinstance(config, DistillStage):
            yield from _losses(job, config, path=path)
        if isinstance(config, CorrectStage) and labelled is None:
            yield from _over_text(config, kinds, path=path)
        elif isinstance(config, CorrectStage):
            yield from _correction(job, config, labelled, kinds, path=path)
        if isinstance(config, CrossFitStage) and labelled is not None:
            yield from _twins(config, labelled, path=path)
        if isinstance(job.data, LabelledConfig):
            if isinstance(config, PruneStage):
                allowed = "a job over text: importance is measured on text, so prune before the job that fine-tunes"
                yield Fault(f"{path}.kind", config.kind, allowed)
            if isinstance(config, LoadStage) and config.from_scratch is not None:
                allowed = "a pretrained `model`: no samples with labels teach a language from nothing"
                yield Fault(f"{path}.from_scratch", config.from_scratch.family, allowed)
            if isinstance(config, EvaluateStage):
                yield from _evaluation(job.data, config, path=path)
        else:
            yield from _only_labelled(config, path=path)


def _twins(config: CrossFitStage, labelled: Labelled, *, path: str) -> Iterator[Fault]:
    num_texts = len(set(first_places(labelled.train).tolist()))
    if config.folds > num_texts:
        yield Fault(f"{path}.folds", config.folds, f"at most the {num_texts} different texts of the training samples")
    yield from _unread(config, _NOT_OF_TWINS, owner="a stage that leaves a trained model", path=path)


def _only_labelled(config: object, *, path: str) -> Iterator[Fault]:
    if isinstance(config, TrainedStage) and config.validation is not None:
        yield Fault(f"{path}.validation", "settings", "leave it out over text; use an evaluate stage")
    if isinstance(config, CrossFitStage):
        yield Fault(f"{path}.kind", config.kind, "labelled data (data.task); text has no labels to be judged")
    if isinstance(config, EvaluateStage) and config.gate.metric is not None:
        yield Fault(f"{path}.gate.metric", config.gate.metric, "perplexity or perplexity_ratio over text")


def _evaluation(data: LabelledConfig, config: EvaluateStage, *, path: str) -> Iterator[Fault]:
    for name in ("perplexity", "perplexity_ratio"):
        if getattr(config.gate, name) is not None:
            yield Fault(f"{path}.gate.{name}", "a range", f"gate.metric, which bounds {data.watched} here")
    if config.prompts:
        yield Fault(f"{path}.prompts", list(config.prompts), "leave it out; a classifier writes nothing")
    yield from _unread(config, _NOT_OF_ANSWERS, owner="a job over text", path=path)


def _unread(config: Config, settings: Sequence[str], *, owner: str, path: str) -> Iterator[Fault]:
    for setting in settings:
        for fault in foreign(config, setting, owner=owner):
            value = "settings" if isinstance(fault.value, Config) else fault.value
            yield replace(fault, path=f"{path}.{setting}", value=value)


def _losses(job: Job, config: DistillStage, *, path: str) -> Iterator[Fault]:
    regression = isinstance(job.data, LabelledConfig) and job.data.task == "regression"
    allowed = losses_that_compare("values" if regression else "classes", "states")
    for place, loss in enumerate(config.losses):
        if loss.function not in allowed:
            yield Fault(f"{path}.losses[{place}].function", loss.function, f"one of {', '.join(allowed)} here")


def _metric(data: LabelledConfig, labelled: Labelled) -> Iterator[Fault]:
    num_classes = len(labelled.classes)
    if data.watched == "f1" and num_classes != 2:
        allowed = f"f1_macro or f1_weighted, as there are {num_classes} classes and f1 is that of the second of two"
        yield Fault("data.metric", data.metric, allowed)


def _over_text(config: CorrectStage, kinds: dict[str, str], *, path: str) -> Iterator[Fault]:
    signal, weights = config.signal, config.weights
    if config.teacher is None or kinds.get(config.teacher) == "cross_fit":
        allowed = "a stage that makes a model, as sequences of text are its words"
        yield Fault(f"{path}.teacher", config.teacher, allowed)
    if max(signal.own_past) > 0:
        yield Fault(f"{path}.signal.own_past", list(signal.own_past), "[0, 0] over text; nothing keeps its words")
    if weights.disagreement != "teacher":
        yield Fault(f"{path}.weights.disagreement", weights.disagreement, "teacher over text")
    for part, setting in _OF_LABELLED:
        yield from _unread(getattr(config, part), [setting], owner="a job with labelled data", path=f"{path}.{part}")


def _correction(
    job: Job, config: CorrectStage, labelled: Labelled, kinds: dict[str, str], *, path: str
) -> Iterator[Fault]:
    assert isinstance(job.data, LabelledConfig)
    is_held_out = config.teacher is not None and kinds.get(config.teacher) == "cross_fit"
    raises = config.weights.step_size(is_held_out=is_held_out) > 0.0
    alike = config.weights.measure == "class" and config.weights.tolerance is None
    if job.data.task == "regression" and raises and alike:
        allowed = "probability, which takes distances as a share of the largest; or set weights.tolerance"
        yield Fault(f"{path}.weights.measure", config.weights.measure, allowed)
    if job.data.task == "classification" and config.weights.tolerance is not None:
        yield Fault(f"{path}.weights.tolerance", config.weights.tolerance, "leave it out; classes have no distance")
    try:
        if config.distrust.exclude is not None:
            read_excluded(config.distrust.exclude, labelled.train.names, setting=f"{path}.distrust.exclude")
    except RefusedInput as refused:
        yield from refused.faults
    if config.weights.initial is not None:
        yield from _initial(config, labelled, path=path)


def _initial(config: CorrectStage, labelled: Labelled, *, path: str) -> Iterator[Fault]:
    file, key, num_samples = config.weights.initial, labelled.train.key, len(labelled.train)
    try:
        weights = read_sample_weights(file, num_samples=num_samples, data=key, setting=f"{path}.weights.initial")
    except RefusedInput as refused:
        yield from refused.faults
        return
    above = int((weights > 0).sum())
    ceiling, floor = as_written(config.weights.ceiling), as_written(config.weights.floor)
    if ceiling * above + floor * (num_samples - above) < num_samples:
        allowed = f"at least {num_samples / above:g}, as {above} of {num_samples} weights in {file} are above 0"
        yield Fault(f"{path}.weights.ceiling", config.weights.ceiling, allowed)
