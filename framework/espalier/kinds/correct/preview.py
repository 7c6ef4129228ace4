"""Cost of a stage `correct`: over text the teacher runs at every step, over labels its predictions are known."""

from __future__ import annotations

from espalier.kinds.correct.kind import CorrectStage
from espalier.planning import training_preview
from espalier.planning.preview import Asked, StagePreview


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """See `StageKind.preview`."""
    config = base.stage.config
    assert isinstance(config, CorrectStage)
    if asked.data_of(config).targets != "words":
        return training_preview.trained(asked, base, config)
    return training_preview.preview(asked, base)
