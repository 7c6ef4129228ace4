"""The config of a pruned or grown model: one that stock transformers loads."""

from __future__ import annotations

from collections.abc import Sequence

from espalier.config.faults import Fault, RefusedInput
from espalier.models.families.reading import family_of, shape_of
from espalier.models.shape import ConfigDict, ModelShape


def resized(config: ConfigDict, shape: ModelShape, *, kept_layers: Sequence[int] | None = None) -> ConfigDict:
    """The config with another shape; everything else as it was.

    Args:
        config: of the parent.
        shape: of the child, made by `ModelShape.cut` from the parent's.
        kept_layers: which of the parent's layers the child has (or copies), so that lists with an entry per layer
            follow; the first ones when left out (good enough to count parameters).

    Raises:
        RefusedInput: stock code of this family cannot have the shape.
    """
    fault = misfit(config, shape)
    if fault:
        raise RefusedInput([fault])
    kept = range(shape.layers) if kept_layers is None else kept_layers
    parent = shape_of(config)
    assert parent.cut(layers=shape.layers, hidden=shape.hidden, ffn=shape.ffn, heads=shape.heads) == shape
    assert len(kept) == shape.layers, "as many kept layers as the shape has"
    family = family_of(config)
    sizes = {key: getattr(shape, axis) for axis, key in family.reading.sizes.items()}
    return config | sizes | family.resize(config, shape, kept)


def misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    """Why stock code of this family cannot have the shape, with the axis as path; None when it can."""
    return family_of(config).misfit(config, shape)
