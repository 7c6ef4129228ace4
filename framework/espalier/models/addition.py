"""Parameters that a stage adds to the network of a model: trained and saved like the model's own, and no part of it.

A module that declares an addition is imported while a job is planned, so it imports torch inside functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from espalier.models.forward_order import Place

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from espalier.models.network import Network


@dataclass(frozen=True)
class AddedParameter:
    """One parameter of an addition.

    Attributes:
        shape: [out, in] of a matrix, which every token is multiplied with once, in the layer that it belongs to.
        place: where the forward pass uses it. What reads the same input as a parameter of the model has that one's
            place; what reads the result of that has the same place with a number behind it.
        rate_scale: factor of its learning rate, beside the decay of its layer.
        may_be_unused: whether a worker may come to no use of it in a microbatch, as of an expert that nothing there is
            routed to. It has to be in a layer.
    """

    shape: tuple[int, ...]
    place: Place
    rate_scale: float = 1.0
    may_be_unused: bool = False

    @property
    def num_elements(self) -> int:
        return math.prod(self.shape)


class Addition(Protocol):
    """Parameters that are trained in the network of a model: adapters, or maps that only a loss needs.

    They have masters, moments and gradients, are clipped with the rest, sharded by the stage's ZeRO level, and saved in
    its checkpoints, from which a run goes on with other workers and levels.
    """

    @property
    def parameters(self) -> Mapping[str, AddedParameter]:
        """By name on disk, in the order of the optimizer; no name that the model has."""
        ...

    def first_value(self, name: str, draw: Generator) -> Tensor:
        """The float32 value that a parameter begins with, on the CPU.

        Args:
            draw: seeded by the run's seed and the name, so that the value is the same on all workers.
        """
        ...

    def attach(self, network: Network) -> Mapping[str, nn.Parameter]:
        """Put the modules in place; returns the parameters, uninitialised, by name on disk.

        They belong inside the layer that they change (as modules of their own, called by a forward hook, for instance),
        or in `network.beside`, where uses of the head find them. What is the model's keeps its names. At level
        `parameters` modules are sharded as they are made, and a weight is there only while the forward of its own
        module, or of its layer, runs.
        """
        ...

    @property
    def folded(self) -> frozenset[str]:
        """Names of the model's parameters that have another value at the end of the stage; see `fold`."""
        ...

    def fold(self, name: str, value_of: Callable[[str], Tensor]) -> Tensor:
        """The float32 value of one of `folded` in the model that the stage makes. Called on rank zero, one by one.

        Args:
            value_of: name -> float32 value at the end of the stage, of a parameter of the model or of the addition.
        """
        ...


def added_parameters(additions: Sequence[Addition]) -> dict[str, AddedParameter]:
    """The parameters of several additions, by name."""
    return {name: one for addition in additions for name, one in addition.parameters.items()}
