"""Run a model's layers in any order, any number of times, through the stock forward (layer sharing)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeGuard

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer


class OrderedLayers(nn.ModuleList):
    """A model's list of layers. Each is registered once, so names and gradients are those of the layers held."""

    _order: tuple[int, ...] | None = None

    def run_in(self, order: Sequence[int] | None) -> None:
        """Yield the layers in this order from now on; None for each once, as they lie."""
        self._order = None if order is None else tuple(order)

    def __iter__(self) -> Iterator[nn.Module]:
        held = list(self._modules.values())
        return iter(held if self._order is None else [held[index] for index in self._order])

    def __len__(self) -> int:
        return len(self._modules) if self._order is None else len(self._order)

    # stock code only iterates over a slice, so that no new ModuleList is made of it in every pass
    def __getitem__(self, index: int | slice) -> nn.Module | list[nn.Module]:  # type: ignore[override]
        return list(self)[index]


def order_layers(model: nn.Module) -> OrderedLayers:
    """Replace a stock model's list of layers by an `OrderedLayers`."""
    path, held = next((path, module) for path, module in model.named_modules() if _holds_layers(module))
    layers = OrderedLayers(list(held))
    model.set_submodule(path, layers)
    return layers


class VirtualDepth:
    """Changes how deep a stock model is; its configuration follows, because stock code slices and masks by it.

    A cache must be off: copies of a layer would share their place in it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._layers, self._config = order_layers(model), model.config
        self._held = len(self._layers)
        self._layer_types = list(getattr(model.config, "layer_types", None) or ())

    def run_layers(self, order: Sequence[int] | None) -> None:
        """Let the next passes run these layers, by number; None for the model's own."""
        self._layers.run_in(order)
        indices = range(self._held) if order is None else order
        self._config.num_hidden_layers = len(indices)
        if self._layer_types:  # stock code takes the mask of each place in the pass from it
            self._config.layer_types = [self._layer_types[index] for index in indices]


def _holds_layers(module: nn.Module) -> TypeGuard[nn.ModuleList]:
    children = list(module.children())
    return isinstance(module, nn.ModuleList) and all(isinstance(one, GradientCheckpointingLayer) for one in children)
