"""The values that an engine begins with: a committed state's, and first values of what a stage adds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from espalier.checkpoint.fragments import Slot
from espalier.checkpoint.read import StateReader
from espalier.distributed.streams import stream_seed
from espalier.models.addition import Addition


@dataclass(frozen=True)
class WithAdditions:
    """A committed state, and first values of added parameters where it has none: see `engine.contract.Values`.

    Attributes:
        seed: of the run; each parameter's name decides its draw.
        goes_on: whether the optimizer continues with its moments. If it does not, what an earlier stage added is not
            read either.
    """

    reader: StateReader
    additions: tuple[Addition, ...]
    seed: int
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
        """First value of an added parameter or of its moment; None for what the state has."""
        if name not in self._shapes:
            return None
        addition, shape = self._shapes[name]
        if self.goes_on and self.reader.manifest.shape(slot, name) == shape:
            return None
        if slot != "parameter":
            return torch.zeros(shape)
        value = addition.first_value(name, torch.Generator().manual_seed(stream_seed(self.seed, f"added {name}")))
        assert value.shape == shape and value.dtype == torch.float32, f"{name}: {value.dtype} {tuple(value.shape)}"
        return value

    @cached_property
    def _shapes(self) -> dict[str, tuple[Addition, tuple[int, ...]]]:
        return {name: (addition, one.shape) for addition in self.additions for name, one in addition.parameters.items()}
