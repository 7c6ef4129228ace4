"""What a stage `load` leaves in the run."""

from __future__ import annotations

from dataclasses import replace

from espalier.kinds.load.kind import LoadStage, refers
from espalier.planning.preview import Asked, StagePreview


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """See `StageKind.preview`."""
    stage, weight_bytes = base.stage.config, asked.sources[base.stage.name].weight_bytes
    assert isinstance(stage, LoadStage)
    is_left_there = weight_bytes > 0 and refers(stage, weight_bytes=weight_bytes, checkpoints=asked.job.checkpoints)
    return replace(base, bytes_on_disk=0) if is_left_there else base
