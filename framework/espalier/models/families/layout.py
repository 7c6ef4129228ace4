"""The parameters of a model, and where it is measured, from its family's table."""

from __future__ import annotations

from espalier.models.families.parameter_specs import Table, labels_axis
from espalier.models.families.reading import family_of, shape_of, stock_class
from espalier.models.shape import AxisKind, ConfigDict, ModelShape, Parameter, Probe


def layout(config: ConfigDict) -> dict[str, Parameter]:
    """Every parameter of the stock model, by the name and in the order of `named_parameters()`.

    A tied weight stands once, under the embedding's name.

    Raises:
        RefusedInput: as `shape_of`.
    """
    shape = shape_of(config)
    table = family_of(config).table
    body = body_prefix(config)
    inside = {
        _join(body, table.layers, str(index), name): Parameter(dimensions, index)
        for index in range(shape.layers)
        for name, dimensions in table.layer(config, shape, index).items()
    }
    before, after = table.before_layers(config, shape), table.after_layers(config, shape)
    head = stock_class(config).parameters(config, shape)
    return _outside(before, body) | inside | _outside(after, body) | _outside(head, "")


def num_parameters(config: ConfigDict, shape: ModelShape | None = None) -> int:
    """Elements of all parameters, a tied weight once. Costs the same for any depth, where the layers are alike.

    Args:
        config: of the model.
        shape: count it with this shape instead of its own.

    Raises:
        RefusedInput: as `shape_of`.
    """
    shape = shape or shape_of(config)
    table = family_of(config).table
    outside = (table.before_layers, table.after_layers, stock_class(config).parameters)
    total = sum(_count(part(config, shape)) for part in outside)
    if not table.layers_differ:
        return total + shape.layers * _count(table.layer(config, shape, 0))
    return total + sum(_count(table.layer(config, shape, index)) for index in range(shape.layers))


def probes(config: ConfigDict) -> tuple[Probe, ...]:
    """Where each layer is measured, in the order of the layers."""
    table, body = family_of(config).table, body_prefix(config)
    return tuple(table.probe.inside(_join(body, table.layers, str(index))) for index in range(shape_of(config).layers))


def body_prefix(config: ConfigDict) -> str:
    """Module path of the body (embeddings, layers, final norm); "" where the model has no head around it."""
    return "" if stock_class(config).head_kind == "none" else family_of(config).table.body


def num_outputs(config: ConfigDict) -> int:
    """Of a classifier: its classes; 1 of a regression."""
    return labels_axis(config).units


def is_causal(config: ConfigDict) -> bool:
    """Whether a token sees only what stands before it."""
    return family_of(config).causal


def normed_axes(config: ConfigDict) -> frozenset[AxisKind]:
    """Axes over which some norm of the model takes its statistics."""
    return frozenset(
        part.kind
        for parameter in layout(config).values()
        for dimension in parameter.dimensions
        for part in dimension
        if part.is_normed
    )


def _outside(table: Table, prefix: str) -> dict[str, Parameter]:
    return {_join(prefix, name): Parameter(dimensions) for name, dimensions in table.items()}


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _count(table: Table) -> int:
    return sum(Parameter(dimensions).num_elements for dimensions in table.values())
