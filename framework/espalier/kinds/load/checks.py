"""Checks of a stage `load` before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.formats import format_of
from espalier.kinds.load.kind import LoadStage
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config = preview.stage.config
    assert isinstance(config, LoadStage)
    scratch, data, path = config.from_scratch, checked.data_of(config), f"stages.{config.name}.from_scratch"
    if scratch is not None and data.targets != "words":
        allowed = "a pretrained `model`: no samples with labels teach a language from nothing"
        yield Fault(path, scratch.family, allowed)
    elif scratch is not None and scratch.train_tokenizer is not None and format_of(data).documents is None:
        allowed = f"`tokenizer`, one that is there: data of format {format_of(data).name} has no text to make one of"
        yield Fault(f"{path}.train_tokenizer", "settings", allowed)
