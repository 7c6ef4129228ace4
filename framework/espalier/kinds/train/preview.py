"""What a stage `train` will do and cost, with the depths that lessons are expected to draw."""

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
    lessons = config.lessons
    if lessons is None:
        return trained(asked, base, config)
    mean = mean_depth(lessons.sampler, held=held, depth=lessons.depth) if lessons.depth >= held else held
    return trained(asked, base, config, depths=(mean, lessons.depth))
