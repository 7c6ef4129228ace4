"""Shape and size on disk of the model that a stage `head` makes."""

from __future__ import annotations

from dataclasses import replace

from espalier.kinds.head.kind import HeadStage
from espalier.models.families import num_parameters
from espalier.models.new_head import new_head
from espalier.planning.preview import Asked, StagePreview


def preview(asked: Asked, base: StagePreview) -> StagePreview:
    """See `StageKind.preview`."""
    config = base.stage.config
    assert isinstance(config, HeadStage)
    tokenizer, outputs = asked.sources[base.parent].tokenizer, asked.outputs_of(config)
    if outputs is None:
        return base  # text, which the checks refuse
    padding_id = tokenizer.padding_id if tokenizer else None
    made = new_head(base.config, names=outputs, padding_id=padding_id, setting=f"stages.{config.name}.student")
    return replace(base, config=made.config, bytes_on_disk=4 * num_parameters(made.config))
