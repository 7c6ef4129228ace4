"""Hidden states of inner layers on their way to an objective, and the linear maps that are trained along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
Projections = Mapping[str, tuple[int, int]]
"""Name -> (input width, output width) of linear maps without bias that are trained beside a model."""


@dataclass(frozen=True)
class StatesUse(Generic[T]):
    """A use of the head that also wants hidden states of inner layers.

    Attributes:
        layers: counted from 1, one for each state that is wanted: what the layer of this number makes.
        projections: of each, the name of the linear map it goes through; None for the state as it is.
        use: (hidden [B, T, D], head weight [V, D], head bias [V] or None, states [B, T, width] each) -> anything.
    """

    layers: tuple[int, ...]
    projections: tuple[str | None, ...]
    use: Callable[[Tensor, Tensor, Tensor | None, tuple[Tensor, ...]], T]


def parameter_name(projection: str) -> str:
    """Name on disk of a linear map's weight; no model has a parameter of such a name."""
    return f"projections.{projection}.weight"


def parameter_shapes(projections: Projections) -> dict[str, tuple[int, int]]:
    """Shapes of the linear maps' weights, by their names on disk."""
    return {parameter_name(name): (outputs, inputs) for name, (inputs, outputs) in projections.items()}


def make_projections(shapes: Projections, dtype: torch.dtype) -> nn.ModuleDict:
    """The linear maps, with uninitialised weights."""
    return nn.ModuleDict({name: nn.Linear(*widths, bias=False, dtype=dtype) for name, widths in shapes.items()})


@contextmanager
def recorded(layers: Sequence[nn.Module], numbers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Record the outputs of layers in the forward pass that runs inside, by layer number from 1.

    The hooks are set for one pass and after an engine's own, so that under zero_level parameters a state has passed
    what DeepSpeed hangs on a layer's output, and recomputing a checkpointed layer records nothing.
    """
    states: dict[int, Tensor] = {}
    hooks = [layers[number - 1].register_forward_hook(partial(_record, states, number)) for number in set(numbers)]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def _record(states: dict[int, Tensor], number: int, layer: nn.Module, inputs: object, output: object) -> None:
    state = output[0] if isinstance(output, tuple) else output
    assert isinstance(state, Tensor), f"layer {number} gives a {type(state).__name__}"
    states[number] = state
