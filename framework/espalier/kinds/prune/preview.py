"""Shape of the model that a stage `prune` makes, and the cost of measuring importance."""

from __future__ import annotations

from dataclasses import replace

from espalier.kinds.prune.kind import PruneStage
from espalier.models.families import num_parameters, resized
from espalier.models.flops import model_flops
from espalier.planning.preview import Asked, StagePreview
from espalier.surgery.search import find_shape


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """See `StageKind.preview`."""
    config = base.stage.config
    assert isinstance(config, PruneStage)
    shape = find_shape(base.config, config.target, config.search, path=f"stages.{config.name}.target")
    child = resized(base.config, shape)
    samples, length = config.calibration.samples, asked.data_of(config).sequence_tokens
    flops = 0.0 if config.scores else model_flops(base.config, tokens=samples * length, sequence_tokens=length)
    made = replace(base, config=child, bytes_on_disk=4 * num_parameters(child), flops=flops)
    return made if config.scores else replace(made, samples=samples, tokens=samples * length)
