"""Checks of a stage `train` before anything starts."""

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
    sampling = config.depth_sampling
    if sampling is not None and sampling.depth < held:
        path = f"stages.{config.name}.depth_sampling.depth"
        yield Fault(path, sampling.depth, f"at least the {held} layers of the model")
