"""Low-rank adapters (LoRA, arXiv 2106.09685): beside a matrix W runs scale * B A, which is added to W at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from espalier.models.addition import AddedParameter
from espalier.models.families import layout
from espalier.models.forward_order import places
from espalier.models.shape import ConfigDict

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from espalier.models.network import Network

_DOWN, _UP = ".lora_a.weight", ".lora_b.weight"


@dataclass(frozen=True)
class LowRank:
    """See `Addition`.

    Attributes:
        model: configuration of the model.
        targets: names of the matrices that are adapted.
        up_rate: factor of the learning rate of B (LoRA+, arXiv 2402.12354).
    """

    model: ConfigDict
    targets: tuple[str, ...]
    rank: int
    scale: float
    up_rate: float = 1.0

    @property
    def parameters(self) -> Mapping[str, AddedParameter]:
        found, used_at = {}, places(self.model)
        for target in self.targets:
            into, out = self._widths(target)
            found[_module(target) + _DOWN] = AddedParameter((self.rank, into), used_at[target])
            found[_module(target) + _UP] = AddedParameter((out, self.rank), (*used_at[target], 1), self.up_rate)
        return found

    def first_value(self, name: str, draw: Generator) -> Tensor:
        import torch

        shape = self.parameters[name].shape
        return torch.zeros(shape) if name.endswith(_UP) else torch.randn(shape, generator=draw) / shape[1] ** 0.5

    def attach(self, network: Network) -> Mapping[str, nn.Parameter]:
        from torch import nn

        found = {}
        for target in self.targets:
            into, out = self._widths(target)
            module = network.model.get_submodule(_module(target))
            module.lora_a = nn.Linear(into, self.rank, bias=False, dtype=network.model.dtype)
            module.lora_b = nn.Linear(self.rank, out, bias=False, dtype=network.model.dtype)
            module.register_forward_hook(partial(_add_low_rank, self.scale))
            found[_module(target) + _DOWN] = module.lora_a.weight
            found[_module(target) + _UP] = module.lora_b.weight
        return found

    @property
    def folded(self) -> frozenset[str]:
        return frozenset(self.targets)

    def fold(self, name: str, value_of: Callable[[str], Tensor]) -> Tensor:
        change = self.scale * value_of(_module(name) + _UP) @ value_of(_module(name) + _DOWN)
        return value_of(name) + (change.t() if self._lies_transposed(name) else change)

    def _widths(self, target: str) -> tuple[int, int]:
        """(inputs, outputs) of a matrix."""
        shape = layout(self.model)[target].shape
        return (shape[0], shape[1]) if self._lies_transposed(target) else (shape[1], shape[0])

    def _lies_transposed(self, target: str) -> bool:
        """Whether the first dimension is the one that is summed over, as in GPT-2's `Conv1D`."""
        return layout(self.model)[target].dimensions[0][0].is_read


def _module(parameter: str) -> str:
    return parameter.removesuffix(".weight")


def _add_low_rank(scale: float, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    change: Tensor = module.lora_b(module.lora_a(inputs[0]))
    return output + scale * change
