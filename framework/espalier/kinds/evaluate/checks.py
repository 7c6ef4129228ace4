"""Checks of a stage `evaluate` before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.format import DataSettings
from espalier.kinds.evaluate.kind import EvaluateStage
from espalier.kinds.evaluate.prompts import prompt_faults
from espalier.models.architecture import is_masked_lm
from espalier.models.families import shape_of
from espalier.planning.checked import Checked
from espalier.planning.input_checks import unlike_inputs
from espalier.planning.preview import StagePreview
from espalier.planning.training_checks import headless
from espalier.planning.unread import unread

_OF_TEXT = ("sequences", "unrolled")


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config = preview.stage.config
    assert isinstance(config, EvaluateStage)
    data, path = checked.data_of(config), f"stages.{config.name}"
    yield from unlike_inputs(checked, preview, instead="; or measure it in an evaluate stage of its own")
    yield from headless(checked.job, preview)
    if data.targets != "words":
        yield from _over_labels(data, config, path=path)
        return
    yield from _not_to_be_unrolled(config, preview)
    yield from prompt_faults(checked, config)
    if config.gate.metric is not None:
        yield Fault(f"{path}.gate.metric", config.gate.metric, "perplexity or perplexity_ratio over text")


def _not_to_be_unrolled(config: EvaluateStage, preview: StagePreview) -> Iterator[Fault]:
    path, held = f"stages.{config.name}", shape_of(preview.config).layers
    if config.unrolled is not None and config.unrolled.depth < held:
        yield Fault(f"{path}.unrolled.depth", config.unrolled.depth, f"at least the {held} layers of the model")
    if config.prompts and (config.unrolled is not None or is_masked_lm(preview.config)):
        wanted = "none: a masked language model does not write on, nor does one that is unrolled"
        yield Fault(f"{path}.prompts", config.prompts[0], wanted)


def _over_labels(data: DataSettings, config: EvaluateStage, *, path: str) -> Iterator[Fault]:
    for name in ("perplexity", "perplexity_ratio"):
        if getattr(config.gate, name) is not None:
            yield Fault(f"{path}.gate.{name}", "a range", f"gate.metric, which bounds {data.watched} here")
    if config.prompts:
        yield Fault(f"{path}.prompts", list(config.prompts), "leave it out; a classifier writes nothing")
    yield from unread(config, _OF_TEXT, owner="a job over text", path=path)
