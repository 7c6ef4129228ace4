"""First values of the linear maps that an objective of hidden states trains along."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from espalier.checkpoint.fragments import Slot
from espalier.checkpoint.read import StateReader
from espalier.models.hidden_states import Projections, parameter_shapes


@dataclass(frozen=True)
class WithProjections:
    """A committed state, and projections where it has none: see `espalier.engine.contract.Values`.

    A projection begins as the identity, cut off or filled up with zeros where the widths differ: the same on all
    workers, and a loss of equal widths begins as that without a projection.

    Attributes:
        goes_on: whether the optimizer continues with its moments. If it does not, those of an earlier stage are not
            read either.
    """

    reader: StateReader
    projections: Projections
    goes_on: bool

    def tensor(self, slot: Slot, name: str) -> Tensor:
        first = self._first(slot, name)
        return self.reader.tensor(slot, name) if first is None else first

    def read(self, slot: Slot, name: str, *, offset: int, length: int) -> Tensor:
        first = self._first(slot, name)
        if first is None:
            return self.reader.read(slot, name, offset=offset, length=length)
        return first.flatten()[offset : offset + length]

    def _first(self, slot: Slot, name: str) -> Tensor | None:
        """First value of a projection's weight or moment; None for what the state has."""
        shape = parameter_shapes(self.projections).get(name)
        if shape is None or (self.goes_on and self.reader.manifest.shape(slot, name) == shape):
            return None
        return torch.eye(*shape) if slot == "parameter" else torch.zeros(shape)
