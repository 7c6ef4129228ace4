"""What a stage `train` cannot draw."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.kinds.train.kind import TrainStage
from espalier.models.families import shape_of
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`."""
    config, held = preview.stage.config, shape_of(preview.config).layers
    assert isinstance(config, TrainStage)
    if config.lessons is not None and config.lessons.depth < held:
        path = f"stages.{config.name}.lessons.depth"
        yield Fault(path, config.lessons.depth, f"at least the {held} layers of the model")
