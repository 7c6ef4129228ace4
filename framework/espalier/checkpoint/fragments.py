"""The unit of state: a contiguous run of one flattened tensor, by name and offset.

Nothing of how a rank came to hold it (padding, group order, ZeRO's indices) is part of it, so any number of
ranks at any ZeRO level can read what any other wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the driver looks at checkpoints without loading torch
    from torch import Tensor

Slot = Literal["parameter", "exp_avg", "exp_avg_sq", "table"]
"""What a tensor is: a parameter's value, one of AdamW's moments of it, or a table of numbers beside the model."""
Dtype = Literal["float64", "float32", "bfloat16", "float16"]
"""What values are stored as, by torch's name for it."""


@dataclass(frozen=True)
class Fragment:
    """What one rank holds of one tensor.

    Attributes:
        slot: which tensor of the parameter.
        name: of the parameter, as `named_parameters` has it (a tied parameter has one name), or of the table.
        offset: of the first value in the flattened parameter.
        values: [length], on any device, in the dtype to be stored; unchanged until it is written.
    """

    slot: Slot
    name: str
    offset: int
    values: Tensor

    @property
    def num_bytes(self) -> int:
        return self.values.numel() * self.values.element_size()


@dataclass(frozen=True)
class Run:
    """Where a fragment lies after it was written: `length` values in `file` under `tensor_key`."""

    slot: Slot
    name: str
    offset: int
    length: int
    dtype: Dtype
    file: str


def tensor_key(slot: Slot, name: str, offset: int) -> str:
    """Name of a fragment inside its safetensors file."""
    return f"{slot}/{name}@{offset}"


def split(fragment: Fragment, *, max_bytes: int) -> Iterator[Fragment]:
    """The same values as fragments of at most `max_bytes` each (at least one value); none when empty."""
    assert fragment.values.dim() == 1, f"{fragment.name}: a fragment is flat, not {tuple(fragment.values.shape)}"
    step = max(1, max_bytes // fragment.values.element_size())
    for start in range(0, fragment.values.numel(), step):
        part = fragment.values[start : start + step]
        yield Fragment(fragment.slot, fragment.name, fragment.offset + start, part)
