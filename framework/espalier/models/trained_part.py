"""The part of a model that is trained, as costs depend on it: products, layers that backward goes through, inputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from espalier.models.families import layout, shape_of, stock_class
from espalier.models.forward_order import (
    ATTENTION,
    ATTENTION_OUT,
    FIRST_NORM,
    HEAD_LAYER,
    LAST_MAP,
    LAST_NORM,
    MIDDLE_NORM,
    Place,
    places,
)
from espalier.models.shape import ConfigDict, Parameter


@dataclass(frozen=True)
class TrainedPart:
    """The parameters of a model that a stage trains.

    Attributes:
        names: as in `layout`.
        places: of all parameters.
    """

    config: ConfigDict
    names: frozenset[str]
    places: dict[str, Place]

    @staticmethod
    def of(config: ConfigDict, names: Collection[str]) -> TrainedPart:
        return TrainedPart(config, frozenset(names), places(config))

    @property
    def num_parameters(self) -> int:
        parameters = layout(self.config)
        return sum(parameters[name].num_elements for name in self.names)

    @property
    def lowest(self) -> Place:
        """Where the backward pass stops."""
        return min(self.places[name] for name in self.names)

    @property
    def layers(self) -> int:
        """Layers that the backward pass goes through, in full or in part."""
        return self.num_layers - max(0, min(self.num_layers, self.lowest[0]))

    @property
    def num_layers(self) -> int:
        """Layers that the model has."""
        return shape_of(self.config).layers

    def num_layers_from(self, inside: int) -> int:
        """Layers in which something at this place or before it is trained."""
        return sum(self.lowest <= (layer, inside) for layer in range(self.num_layers))

    @property
    def trains_head(self) -> bool:
        """Whether the last map's matrix is trained, be it as the embedding."""
        return _head_weight(self.config) in self.names

    def num_layers_with(self, *inside: int) -> int:
        """Layers in which a parameter at one of these places is trained; matrices alone where matrices are."""
        parameters = layout(self.config)
        found = (name for name in self.names if self.places[name][1] in inside and parameters[name].layer is not None)
        norms = (FIRST_NORM, MIDDLE_NORM, LAST_NORM)
        weights = (name for name in found if name.endswith(".weight") or self.places[name][1] in norms)
        return len({parameters[name].layer for name in weights})

    def backward_flops(self, *, sequence_tokens: float, read_share: float) -> tuple[float, float]:
        """A token's, in each layer once, and after the layers. Arguments as in `flops`."""
        shape, lowest = shape_of(self.config), self.lowest
        # A bare encoder's last layer reads the first token of a row alone.
        rows = 1.0 if stock_class(self.config).transform_flops(shape) else 1 / sequence_tokens
        within = after = 0.0
        for name, parameter in layout(self.config).items():
            if len(parameter.shape) < 2:
                continue
            products = (name in self.names) + (lowest < self.places[name])
            if parameter.layer is not None:
                attends = self.places[name][1] == ATTENTION_OUT and lowest < (parameter.layer, ATTENTION)
                within += products * 2 * parameter.num_elements
                within += attends * 2 * 4 * sequence_tokens * _read_width(parameter)
            elif self.places[name] == (shape.layers, HEAD_LAYER):
                after += products * rows * 2 * parameter.num_elements
        if (head := _head_weight(self.config)) is not None:
            products = (head in self.names) + (lowest < (shape.layers, LAST_MAP))
            after += products * read_share * 2 * layout(self.config)[head].num_elements
        return within, after


def _read_width(parameter: Parameter) -> int:
    """Entries of its input."""
    return sum(part.size for dimension in parameter.dimensions for part in dimension if part.is_read)


def _head_weight(config: ConfigDict) -> str | None:
    """Name of the last map's matrix: the embedding where they are tied; None of a bare body."""
    stock = stock_class(config)
    if stock.head is None:
        return None
    own = f"{stock.head}.weight"
    return own if own in layout(config) else stock.ties[own]
