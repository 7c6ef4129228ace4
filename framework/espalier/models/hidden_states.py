"""Hidden states of inner layers on their way to an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class StatesUse(Generic[T]):
    """A use of the head that also wants hidden states of inner layers.

    Attributes:
        layers: counted from 1, one for each state that is wanted: what the layer of this number makes.
        projections: of each, the name of the linear map in `Network.beside` that it goes through; None for the state
            as it is.
        use: (hidden [B, T, D], head weight [V, D], head bias [V] or None, states [B, T, width] each) -> anything.
    """

    layers: tuple[int, ...]
    projections: tuple[str | None, ...]
    use: Callable[[Tensor, Tensor, Tensor | None, tuple[Tensor, ...]], T]


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
