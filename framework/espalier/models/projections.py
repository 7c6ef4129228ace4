"""Linear maps from the student's to the teacher's width, which a loss of hidden states trains along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from espalier.config.loss import HiddenStateSettings, LossSettings
from espalier.models.addition import AddedParameter
from espalier.models.families import shape_of
from espalier.models.forward_order import LAST_MAP
from espalier.models.shape import ConfigDict

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from espalier.models.network import Network


@dataclass(frozen=True)
class Projections:
    """See `Addition`: maps without bias, called by name through `StatesUse`, and of no use after the stage.

    A projection begins as the identity, cut off or filled up with zeros where the widths differ, so that a loss of
    equal widths begins as that without a projection.

    Attributes:
        names: of the maps.
    """

    names: tuple[str, ...]
    student: ConfigDict
    teacher: ConfigDict
    folded: frozenset[str] = frozenset()

    @property
    def parameters(self) -> Mapping[str, AddedParameter]:
        after_layers = (shape_of(self.student).layers, LAST_MAP)
        return {_on_disk(name): AddedParameter(self._shape, after_layers) for name in self.names}

    def first_value(self, name: str, draw: Generator) -> Tensor:
        import torch

        return torch.eye(*self._shape)

    def attach(self, network: Network) -> Mapping[str, nn.Parameter]:
        from torch import nn

        outputs, inputs = self._shape
        found = {}
        for name in self.names:
            network.beside[name] = nn.Linear(inputs, outputs, bias=False, dtype=network.model.dtype)
            found[_on_disk(name)] = network.beside[name].get_parameter("weight")
        return found

    def fold(self, name: str, value_of: Callable[[str], Tensor]) -> Tensor:
        raise AssertionError("projections change nothing of the model")

    @property
    def _shape(self) -> tuple[int, int]:
        return shape_of(self.teacher).hidden, shape_of(self.student).hidden


def projections_of(
    losses: Sequence[LossSettings], student: ConfigDict, teacher: ConfigDict | None
) -> tuple[Projections, ...]:
    """What losses of hidden states train along with these models: one addition, or none."""
    of_states = (loss for loss in losses if isinstance(loss, HiddenStateSettings))
    names = dict.fromkeys(name for loss in of_states for name in loss.projections() if name is not None)
    return (Projections(tuple(names), student, teacher),) if names and teacher is not None else ()


def _on_disk(name: str) -> str:
    return f"projections.{name}.weight"
