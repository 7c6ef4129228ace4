"""Shape and size on disk of the model that a stage `grow` makes."""

from __future__ import annotations

from dataclasses import replace

from espalier.kinds.grow.kind import GrowStage
from espalier.models.families import num_parameters
from espalier.planning.preview import MASTER_AND_MOMENTS_BYTES, Asked, StagePreview, has_moments
from espalier.surgery.growth import planned_growth


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """See `StageKind.preview`."""
    config = base.stage.config
    assert isinstance(config, GrowStage)
    growth = planned_growth(config, base.config)
    value = MASTER_AND_MOMENTS_BYTES if has_moments(asked.plan, config.name) else 4
    return replace(base, config=growth.config, bytes_on_disk=value * num_parameters(growth.config))
