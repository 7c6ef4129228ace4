"""Cost of a stage `evaluate`."""

from __future__ import annotations

from dataclasses import replace

from espalier.kinds.evaluate.kind import EvaluateStage
from espalier.models.flops import model_flops, read_share
from espalier.planning.preview import Asked, StagePreview


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """FLOPs of all models that are measured; unknown for an evaluation over all of a text."""
    config = base.stage.config
    assert isinstance(config, EvaluateStage)
    if config.sequences is None:
        return base
    length = asked.data_of(config).sequence_tokens
    tokens = config.sequences * length
    models = [asked.seen[name].config for name in (config.model, *config.against)]
    depths = [config.unrolled.depth if config.unrolled else None, *[None] * len(config.against)]
    flops = sum(
        model_flops(
            model,
            tokens=tokens,
            sequence_tokens=length,
            layers=depth,
            read_share=read_share(model, config.masked_share),
        )
        for model, depth in zip(models, depths, strict=True)
    )
    return replace(base, samples=config.sequences * len(models), tokens=tokens * len(models), flops=flops)
