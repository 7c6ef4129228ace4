"""The parameters of a model and the places it is measured at, read off its family's table."""

from __future__ import annotations

from espalier.models.families.pieces import Table, labels_axis
from espalier.models.families.reading import shape_of
from espalier.models.families.registry import FAMILIES
from espalier.models.shape import ConfigDict, ModelShape, Parameter, Probe


def layout(config: ConfigDict) -> dict[str, Parameter]:
    """Every parameter of the stock model, by the name and in the order of `named_parameters()`.

    A tied weight stands once, under the embedding's name.

    Raises:
        RefusedInput: as `shape_of`.
    """
    shape = shape_of(config)
    family = FAMILIES[shape.family]
    before, after = family.outside(config, shape)
    layer = family.layer(config, shape)
    inside = {
        f"{family.layer_path(config, index)}.{name}": Parameter(dimensions, index)
        for index in range(shape.layers)
        for name, dimensions in layer.items()
    }
    return _parameters(before) | inside | _parameters(after)


def num_parameters(config: ConfigDict, shape: ModelShape | None = None) -> int:
    """Elements of all parameters, a tied weight once. Costs the same for any depth.

    Args:
        config: of the model.
        shape: count it with this shape instead of its own.

    Raises:
        RefusedInput: as `shape_of`.
    """
    shape = shape or shape_of(config)
    family = FAMILIES[shape.family]
    before, after = family.outside(config, shape)
    return _count(before) + _count(after) + shape.layers * _count(family.layer(config, shape))


def probes(config: ConfigDict) -> tuple[Probe, ...]:
    """Where each layer is measured, in the order of the layers."""
    shape = shape_of(config)
    return tuple(FAMILIES[shape.family].probe(config, index) for index in range(shape.layers))


def body_prefix(config: ConfigDict) -> str:
    """Module path of the body (embeddings, layers, final norm); "" where the model has no head around it."""
    return FAMILIES[shape_of(config).family].body(config)


def num_outputs(config: ConfigDict) -> int:
    """Of a classifier: its classes; 1 of a regression."""
    return labels_axis(config).units


def is_causal(config: ConfigDict) -> bool:
    """Whether a token sees only what stands before it."""
    return FAMILIES[shape_of(config).family].CAUSAL


def has_post_norm(config: ConfigDict) -> bool:
    """Whether what passes a layer by goes through the layer's norms, as in BERT."""
    return FAMILIES[shape_of(config).family].POST_NORM


def _parameters(table: Table) -> dict[str, Parameter]:
    return {name: Parameter(dimensions) for name, dimensions in table.items()}


def _count(table: Table) -> int:
    return sum(parameter.num_elements for parameter in _parameters(table).values())
