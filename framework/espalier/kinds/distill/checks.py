"""What a stage `distill` cannot teach."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.data import DataConfig
from espalier.config.faults import Fault
from espalier.config.labelled import LabelledConfig
from espalier.kinds.distill.kind import DistillStage
from espalier.planning.checked import Checked
from espalier.planning.input_checks import unlike_inputs
from espalier.planning.preview import StagePreview

_OF_CLASSES = ("forward_kl", "reverse_kl", "jsd", "skewed_forward_kl", "skewed_reverse_kl", "cross_entropy")
_OF_VALUES = ("squared_error", "squared_distance")


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config = preview.stage.config
    assert isinstance(config, DistillStage)
    yield from unlike_inputs(checked, preview)
    yield from _losses(checked.data_of(config), config)


def _losses(data: DataConfig | LabelledConfig, config: DistillStage) -> Iterator[Fault]:
    regression = isinstance(data, LabelledConfig) and data.task == "regression"
    allowed = _OF_VALUES if regression else _OF_CLASSES
    for place, loss in enumerate(config.losses):
        if loss.function not in allowed:
            yield Fault(
                f"stages.{config.name}.losses[{place}].function", loss.function, f"one of {', '.join(allowed)} here"
            )
