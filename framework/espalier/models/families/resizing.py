"""The config of a pruned or grown model: one that stock transformers loads."""

from __future__ import annotations

from collections.abc import Sequence

from espalier.config.faults import Fault, RefusedInput
from espalier.models.families.reading import shape_of
from espalier.models.families.registry import FAMILIES
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
    family = FAMILIES[shape.family]
    sizes = {key: getattr(shape, axis) for axis, key in family.SIZES.items()}
    return config | sizes | family.resize(config, shape) | _per_layer(config, parent.layers, kept)


def misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    """Why stock code of this family cannot have the shape, with the axis as path; None when it can."""
    return FAMILIES[shape.family].misfit(config, shape)


def _per_layer(config: ConfigDict, num_layers: int, kept: Sequence[int]) -> ConfigDict:
    """Lists with one entry per layer, cut to the kept ones; a rule by layer number becomes such a list."""
    lists = {"layer_types": config["layer_types"]} if config.get("layer_types") else _window_rule(config, num_layers)
    changed: ConfigDict = {key: [values[index] for index in kept] for key, values in lists.items()}
    if "max_window_layers" in config:
        changed["max_window_layers"] = min(config["max_window_layers"], len(kept))
    return changed


def _window_rule(config: ConfigDict, num_layers: int) -> dict[str, list[str]]:
    if not config.get("use_sliding_window") or config.get("sliding_window", 4096) is None:  # silent: stock's 4096
        return {}
    first = config.get("max_window_layers", 28)  # stock Qwen2 and Qwen3: from this layer on, a sliding window
    return {"layer_types": ["sliding_attention" if i >= first else "full_attention" for i in range(num_layers)]}
