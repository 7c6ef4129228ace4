"""Checks of a stage `load` before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.labelled import LabelledConfig
from espalier.kinds.load.kind import LoadStage
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config = preview.stage.config
    assert isinstance(config, LoadStage)
    if config.from_scratch is not None and isinstance(checked.data_of(config), LabelledConfig):
        allowed = "a pretrained `model`: no samples with labels teach a language from nothing"
        yield Fault(f"stages.{config.name}.from_scratch", config.from_scratch.family, allowed)
