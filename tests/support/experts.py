"""Added maps of which each microbatch uses one, as tokens that are routed to experts do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from espalier.data.batch import Batch
from espalier.models.addition import AddedParameter
from espalier.models.forward_order import FFN_OUT
from espalier.models.network import Network


@dataclass(frozen=True)
class Experts:
    """See `Addition`: two square maps behind each layer's MLP.

    Attributes:
        route: which of the two a microbatch runs; None for neither.
        is_declared: whether they say that a worker may not come to use them.
    """

    width: int
    layers: int
    route: Callable[[Batch], int | None]
    is_declared: bool = True
    folded: frozenset[str] = frozenset()

    @property
    def parameters(self) -> Mapping[str, AddedParameter]:
        names = [(layer, expert) for layer in range(self.layers) for expert in range(2)]
        shape = (self.width, self.width)
        return {
            _name(*one): AddedParameter(shape, (one[0], FFN_OUT, 1), may_be_unused=self.is_declared) for one in names
        }

    def first_value(self, name: str, draw: Generator) -> Tensor:
        return torch.randn(self.width, self.width, generator=draw) * 0.1

    def attach(self, network: Network) -> Mapping[str, nn.Parameter]:
        chosen: list[int | None] = [None]
        network.register_forward_pre_hook(lambda module, inputs: chosen.__setitem__(0, self.route(inputs[0])))
        found = {}
        for number, layer in enumerate(network.layers):
            mlp = layer.get_submodule("mlp")
            mlp.experts = nn.ModuleList(nn.Linear(self.width, self.width, bias=False) for _ in range(2))
            mlp.register_forward_hook(lambda module, inputs, output: _routed(module, output, chosen[0]))
            found |= {_name(number, expert): one.weight for expert, one in enumerate(mlp.experts)}
        return found

    def fold(self, name: str, value_of: Callable[[str], Tensor]) -> Tensor:
        raise AssertionError(name)


def by_pairs(batch: Batch) -> int:
    """Of two workers each always uses the same one, and never the other's."""
    return int(batch.sample_ids[0]) // 2 % 2


def first_pairs(batch: Batch) -> int | None:
    """Of two workers one uses a map, and the other none."""
    return None if int(batch.sample_ids[0]) // 2 % 2 else 1


def _routed(module: Any, output: Tensor, expert: int | None) -> Tensor:
    return output if expert is None else output + module.experts[expert](output)


def _name(layer: int, expert: int) -> str:
    return f"model.layers.{layer}.mlp.experts.{expert}.weight"
