"""Checks of a stage `correct` before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.exact import as_written
from espalier.config.faults import Fault, RefusedInput
from espalier.data.examples import Labelled
from espalier.data.sample_weights import read_excluded, read_sample_weights
from espalier.jobs.kind import KINDS
from espalier.kinds.correct.kind import CorrectStage
from espalier.planning.checked import Checked
from espalier.planning.input_checks import unlike_inputs
from espalier.planning.preview import StagePreview
from espalier.planning.unread import unread

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


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config = preview.stage.config
    assert isinstance(config, CorrectStage)
    labelled, path = checked.labelled_of(config), f"stages.{config.name}"
    if labelled is None:
        yield from unlike_inputs(checked, preview)
        yield from _over_text(checked, config, path=path)
    else:
        yield from unlike_inputs(checked, preview, instead="; or a cross_fit stage of it")
        yield from _over_labels(checked, config, labelled, path=path)


def _over_text(checked: Checked, config: CorrectStage, *, path: str) -> Iterator[Fault]:
    signal, weights = config.signal, config.weights
    if config.teacher is None or not KINDS[checked.kind_of(config.teacher)].makes_model:
        allowed = "a stage that makes a model, as sequences of text are its words"
        yield Fault(f"{path}.teacher", config.teacher, allowed)
    if max(signal.own_past) > 0:
        yield Fault(f"{path}.signal.own_past", list(signal.own_past), "[0, 0] over text; nothing keeps its words")
    if weights.disagreement != "teacher":
        yield Fault(f"{path}.weights.disagreement", weights.disagreement, "teacher over text")
    for part, setting in _OF_LABELLED:
        yield from unread(getattr(config, part), [setting], owner="a job with labelled data", path=f"{path}.{part}")


def _over_labels(checked: Checked, config: CorrectStage, labelled: Labelled, *, path: str) -> Iterator[Fault]:
    targets = checked.data_of(config).targets
    is_held_out = config.teacher is not None and not KINDS[checked.kind_of(config.teacher)].makes_model
    raises = config.weights.step_size(is_held_out=is_held_out) > 0.0
    alike = config.weights.measure == "class" and config.weights.tolerance is None
    if targets == "values" and raises and alike:
        allowed = "probability, which takes distances as a share of the largest; or set weights.tolerance"
        yield Fault(f"{path}.weights.measure", config.weights.measure, allowed)
    if targets == "classes" and config.weights.tolerance is not None:
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
    assert file is not None
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
