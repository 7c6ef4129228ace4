"""Pruning, tensor by tensor: width is a selection of indices, depth a renaming."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from torch import Tensor

from espalier.models.shape import Parameter
from espalier.surgery.keep import Keep, select


class PrunedTensor(NamedTuple):
    """One tensor of the child: its name, its name in the parent, and how it is made from that one."""

    new_name: str
    old_name: str
    transform: Callable[[Tensor], Tensor]


def pruned_tensors(layout: dict[str, Parameter], keep: Keep) -> Iterator[PrunedTensor]:
    """How each parameter of the child comes from one of the parent's.

    The caller streams: one tensor in memory at a time, weights and optimizer moments by the same transform.
    Keeping everything gives every tensor back as it is.

    Args:
        layout: of the parent, from `espalier.models.families.layout`.
        keep: what stays.

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
