"""The part of a model that is trained, as costs depend on it: products, layers that backward goes through, inputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from espalier.models.architecture import architecture
from espalier.models.families import layout, shape_of
from espalier.models.forward_order import (
    FIRST_NORM,
    HEAD_LAYER,
    LAST_MAP,
    LAST_NORM,
    MIDDLE_NORM,
    QUERY_KEY_VALUE,
    Place,
    places,
)
from espalier.models.shape import ConfigDict

_ONE_PASS = ("BertForMaskedLM", "BertForSequenceClassification")


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

    def backward_flops(self, *, sequence_tokens: int, read_share: float) -> tuple[float, float]:
        """A token's, in each layer once, and after the layers. Arguments as in `flops`."""
        shape, lowest = shape_of(self.config), self.lowest
        within = after = 0.0
        for name, parameter in layout(self.config).items():
            if parameter.layer is not None and len(parameter.shape) > 1:
                products = (name in self.names) + (lowest < self.places[name])
                within += products * 2 * parameter.num_elements
        attention = 2 * 2 * shape.heads * shape.head_dim * sequence_tokens
        within += self.num_layers_from(QUERY_KEY_VALUE) * 2 * attention
        for name, parameter in layout(self.config).items():
            if self.places[name] == (shape.layers, HEAD_LAYER) and len(parameter.shape) > 1:
                rows = 1.0 if architecture(self.config) in _ONE_PASS else 1 / sequence_tokens
                products = (name in self.names) + (lowest < self.places[name])
                after += products * rows * 2 * parameter.num_elements
        products = self.trains_head + (lowest < (shape.layers, LAST_MAP))
        return within, after + products * read_share * 2 * num_rows_of_last_map(self.config) * shape.hidden


def num_rows_of_last_map(config: ConfigDict) -> int:
    """Words, classes, or none."""
    head = _head_weight(config)
    return 0 if head is None else layout(config)[head].shape[0]


def _head_weight(config: ConfigDict) -> str | None:
    """Name of the last map's matrix: the embedding where they are tied; None of a bare body."""
    if architecture(config) == "BertModel":
        return None
    ends = ("lm_head.weight", "score.weight", "classifier.weight", "predictions.decoder.weight")
    own = [name for name in layout(config) if name.endswith(ends)]
    return own[0] if own else next(iter(layout(config)))
