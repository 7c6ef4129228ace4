"""Checks of a stage `distill` before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.format import DataSettings
from espalier.config.losses import losses_that_compare
from espalier.kinds.distill.hidden_state_checks import hidden_state_faults
from espalier.kinds.distill.kind import DistillStage
from espalier.planning.checked import Checked
from espalier.planning.input_checks import unlike_inputs
from espalier.planning.preview import StagePreview


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config = preview.stage.config
    assert isinstance(config, DistillStage)
    yield from unlike_inputs(checked, preview)
    yield from _losses(checked.data_of(config), config)
    yield from hidden_state_faults(checked, config)


def _losses(data: DataSettings, config: DistillStage) -> Iterator[Fault]:
    allowed = losses_that_compare("values" if data.targets == "values" else "classes", "states")
    for place, loss in enumerate(config.losses):
        if loss.function not in allowed:
            yield Fault(
                f"stages.{config.name}.losses[{place}].function", loss.function, f"one of {', '.join(allowed)} here"
            )
