"""Shape and size on disk of the model that a stage `grow` makes."""

from __future__ import annotations

from dataclasses import replace

from espalier.kinds.grow.kind import GrowStage
from espalier.planning.preview import MASTER_AND_MOMENTS_BYTES, Asked, StagePreview, moments_of
from espalier.surgery.growth import planned_growth


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """See `StageKind.preview`."""
    config = base.stage.config
    assert isinstance(config, GrowStage)
    growth = planned_growth(config, base.config)
    grown = replace(base, config=growth.config)
    with_moments = moments_of(asked.plan, config.name, {**asked.seen, config.name: grown})
    value = MASTER_AND_MOMENTS_BYTES if with_moments else 4
    return replace(grown, bytes_on_disk=value * grown.parameters)
