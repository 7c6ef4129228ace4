"""What a stage trains, as costs depend on it: products, layers that backward goes through, inputs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from espalier.config.training import TuneConfig
from espalier.models.addition import AddedParameter, Addition, added_parameters
from espalier.models.families import layout, shape_of, stock_class, tuned_names
from espalier.models.forward_order import (
    ATTENTION,
    ATTENTION_OUT,
    FFN_OUT,
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
    """The parameters that a stage trains: of a model, or added to it; not all of a model and nothing else.

    Attributes:
        names: of the model's parameters, as in `layout`.
        places: of all parameters of the model.
    """

    config: ConfigDict
    names: frozenset[str]
    places: dict[str, Place]
    additions: tuple[Addition, ...] = ()

    @staticmethod
    def of(config: ConfigDict, names: Collection[str], additions: Sequence[Addition] = ()) -> TrainedPart:
        return TrainedPart(config, frozenset(names), places(config), tuple(additions))

    @cached_property
    def added(self) -> dict[str, AddedParameter]:
        """The parameters of all additions, by name."""
        return added_parameters(self.additions)

    @property
    def folded(self) -> frozenset[str]:
        """Names of the model's parameters that the additions change at the end of the stage."""
        return frozenset().union(*(addition.folded for addition in self.additions))

    @property
    def is_whole_model(self) -> bool:
        """Whether all of the model is trained, and something that is added to it."""
        return bool(self.additions) and self.names == layout(self.config).keys()

    @property
    def num_added_parameters(self) -> int:
        return sum(one.num_elements for one in self.added.values())

    @property
    def num_parameters(self) -> int:
        """Elements of all that is trained."""
        parameters = layout(self.config)
        return sum(parameters[name].num_elements for name in self.names) + self.num_added_parameters

    @property
    def lowest(self) -> Place:
        """Where the backward pass stops."""
        return min([*(self.places[name] for name in self.names), *(one.place for one in self.added.values())])

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
        """Layers in which something is trained that reads the input of one of these places; matrices where matrices
        are."""
        parameters = layout(self.config)
        found = (name for name in self.names if self.places[name][1] in inside and parameters[name].layer is not None)
        norms = (FIRST_NORM, MIDDLE_NORM, LAST_NORM)
        weights = (name for name in found if name.endswith(".weight") or self.places[name][1] in norms)
        return len({parameters[name].layer for name in weights} | self._layers_added_to(*inside))

    @property
    def share_ending_in_added(self) -> float:
        """Share of the layers whose last map has something added to it, and is thus not the last that is computed."""
        return len(self._layers_added_to(FFN_OUT)) / self.num_layers

    def added_flops(self) -> tuple[float, float]:
        """Of what is added, a token's in the forward pass: in each layer once, and outside of the layers."""
        within, outside = self._added_matrices()
        return sum(2 * out * into for _, out, into in within), sum(2 * out * into for _, out, into in outside)

    def added_inputs(self) -> tuple[int, int]:
        """Widths of inputs that added matrices keep for backward and nothing else keeps: in layers, and outside."""
        within, outside = self._added_matrices()
        return sum(into for place, _, into in within if len(place) > 2), sum(into for _, _, into in outside)

    def backward_flops(self, *, sequence_tokens: float, read_share: float) -> tuple[float, float]:
        """A token's, in each layer once, and outside of the layers. Arguments as in `flops`."""
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
        added = [
            sum((1 + (lowest < place)) * 2 * out * into for place, out, into in one) for one in self._added_matrices()
        ]
        return within + added[0], after + added[1]

    def _layers_added_to(self, *inside: int) -> set[int]:
        """Layers in which an added matrix reads the input of one of these places."""
        return {place[0] for place, _, _ in self._added_matrices()[0] if place[1] in inside and len(place) == 2}

    def _added_matrices(self) -> tuple[list[tuple[Place, int, int]], list[tuple[Place, int, int]]]:
        """(place, outputs, inputs) of what is added in layers, and of what is added outside of them."""
        found = [(one.place, *one.shape) for one in self.added.values() if len(one.shape) == 2]
        in_layers = [one for one in found if 0 <= one[0][0] < self.num_layers]
        return in_layers, [one for one in found if one not in in_layers]


class _Settings(Protocol):
    """Of a stage that trains."""

    @property
    def name(self) -> str: ...

    @property
    def tune(self) -> TuneConfig | None: ...


def tuned_part(settings: _Settings, student: ConfigDict, teacher: ConfigDict | None) -> TrainedPart | None:
    """What a stage trains by its setting `tune`; None for the whole model. See `StageKind.trains`."""
    names = tuned_names(student, settings.tune, path=f"stages.{settings.name}.tune")
    return None if names is None else TrainedPart.of(student, names)


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
