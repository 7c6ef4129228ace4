"""Cost of a stage `cross_fit`."""

from __future__ import annotations

from dataclasses import replace

from espalier.kinds.cross_fit.kind import CrossFitStage
from espalier.models.families import num_outputs
from espalier.planning.preview import Asked, StagePreview
from espalier.planning.training_preview import trained


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """The cost of training each fold model on all folds but one; only predictions are kept on disk."""
    config, num_samples = base.stage.config, asked.samples_of(base.stage.config)
    assert isinstance(config, CrossFitStage)
    one = trained(asked, base, config)
    if one.samples is None or one.tokens is None or one.flops is None or num_samples is None:
        return one
    share = config.repeats * (config.folds - 1)
    return replace(
        one,
        steps=None,
        samples=one.samples * share,
        tokens=one.tokens * share,
        flops=one.flops * share,
        bytes_on_disk=2 * 4 * num_samples * num_outputs(one.config),
    )
