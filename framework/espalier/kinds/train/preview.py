"""Steps and cost of a stage `train`; with depth sampling by the expected depth."""

from __future__ import annotations

from espalier.kinds.train.kind import TrainStage
from espalier.models.families import shape_of
from espalier.planning.preview import Asked, StagePreview
from espalier.planning.training_preview import trained
from espalier.surgery.depth_sampling import mean_depth


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """See `StageKind.preview`."""
    config, held = base.stage.config, shape_of(base.config).layers
    assert isinstance(config, TrainStage)
    sampling = config.depth_sampling
    if sampling is None:
        return trained(asked, base, config)
    mean = mean_depth(sampling.sampler, held=held, depth=sampling.depth) if sampling.depth >= held else held
    return trained(asked, base, config, depths=(mean, sampling.depth))
