"""Pruning, tensor by tensor: select indices for width, rename for depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from torch import Tensor

from espalier.models.shape import Parameter
from espalier.surgery.keep import Keep, select


class PrunedTensor(NamedTuple):
    """One tensor of the pruned model: its name, its name in the parent, and the selection from that."""

    new_name: str
    old_name: str
    transform: Callable[[Tensor], Tensor]


def pruned_tensors(layout: dict[str, Parameter], keep: Keep) -> Iterator[PrunedTensor]:
    """Yield how each parameter of the pruned model is made from one of the parent.

    Callers stream: one tensor in memory at a time, with the same selection for weights and optimizer moments.

    Args:
        layout: of the parent, from `espalier.models.families.layout`.
        keep: the units to keep.

    Yields:
        One entry per parameter of the child, in the order of the parent's layout.
    """
    for name, parameter in layout.items():
        if parameter.layer is None or parameter.layer in keep.layers:
            yield PrunedTensor(_renamed(name, parameter, keep), name, partial(_select, parameter=parameter, keep=keep))


def _select(tensor: Tensor, *, parameter: Parameter, keep: Keep) -> Tensor:
    return select(tensor, parameter, keep)


def _renamed(name: str, parameter: Parameter, keep: Keep) -> str:
    if parameter.layer is None:
        return name
    old, new = f".{parameter.layer}.", f".{keep.place(parameter.layer)}."
    assert name.count(old) == 1, "a layer's number stands once in a parameter's name"
    return name.replace(old, new)
