"""Size on disk of a stage `export`."""

from __future__ import annotations

from dataclasses import replace

from espalier.kinds.export.kind import ExportStage
from espalier.planning.preview import Asked, StagePreview


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """See `StageKind.preview`."""
    config = base.stage.config
    assert isinstance(config, ExportStage)
    return replace(base, bytes_on_disk=(2 if config.dtype == "bfloat16" else 4) * base.parameters)
