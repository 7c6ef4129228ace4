"""Widening a model without changing what it computes: units are split into copies (Net2Net, arXiv 1511.05641).

What reads copied units divides its weights among them, what writes them is copied. That is exact for FFN neurons and
for attention heads in any number. For the hidden size it is exact when every channel is copied equally often: only
then do a norm's mean and variance over the channels stay. A head that is the embedding cannot divide its weights,
which are written too; the norm before it divides instead (the tables mark it as read).
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import torch
from torch import Tensor

from espalier.models.shape import Dimension, Parameter
from espalier.surgery.growth import Split

Order = Literal[0, 1, 2]
"""How often the gradient stands in a tensor: 0 in a value, 1 in Adam's first moment, 2 in its second."""


def widen(
    tensor: Tensor, parameter: Parameter, split: Split, *, order: Order, noise: float = 0.0, draw: torch.Generator
) -> Tensor:
    """A parameter of the wide model, or the moment that Adam would have kept of it.

    A copy that is read together with m - 1 others sees the old gradient; one that is written sees 1 / m of it, since
    its readers are divided: so the first moment is divided by m there, the second by m squared.

    Args:
        tensor: of the narrow model.
        noise: how far copies that are read are set apart, as a share of the tensor's own standard deviation. It sums
            to zero over the copies of a unit, so that the function stays while their gradients part.

    Returns:
        A new tensor, or the given one where nothing grows.
    """
    for dim, dimension in enumerate(parameter.dimensions):
        entries, counts = _entries(dimension, split)
        if len(entries) == tensor.shape[dim]:
            continue
        shares = _along((1 / counts).to(tensor), dim, tensor.dim())
        is_read, index = dimension[0].is_read, torch.tensor(entries)
        spread = noise * float(tensor.float().std())
        tensor = tensor.index_select(dim, index)
        if order == 0 and is_read:
            tensor = tensor * shares
            if noise:
                tensor = tensor + spread * _zero_sum(tensor, dim, index, counts, draw)
        elif order and not is_read:
            tensor = tensor * shares**order
    return tensor


def first_copies(parameter: Parameter, split: Split) -> Tensor:
    """[shape of the wide parameter] bool: True where every unit is the first copy of its source, so nothing new."""
    is_first = torch.ones((), dtype=torch.bool)
    for dim, dimension in enumerate(parameter.dimensions):
        entries, _ = _entries(dimension, split)
        first = {entry: place for place, entry in reversed(list(enumerate(entries)))}
        firsts = torch.tensor([first[entry] == place for place, entry in enumerate(entries)])
        is_first = is_first & _along(firsts, dim, len(parameter.dimensions))
    return is_first


def _zero_sum(like: Tensor, dim: int, index: Tensor, counts: Tensor, draw: torch.Generator) -> Tensor:
    """Normal draws whose sum over the copies of a unit is 0; 0 where a unit has one copy only."""
    drawn = torch.randn(like.shape, generator=draw, dtype=like.dtype)
    size = list(like.shape)
    size[dim] = int(index.max()) + 1
    sums = torch.zeros(size, dtype=like.dtype).index_add_(dim, index, drawn)
    mean = sums.index_select(dim, index) / _along(counts.to(like), dim, like.dim())
    return drawn - mean


def _along(values: Tensor, dim: int, num_dims: int) -> Tensor:
    return values.view([-1 if one == dim else 1 for one in range(num_dims)])


def _entries(dimension: Dimension, split: Split) -> tuple[list[int], Tensor]:
    """The old entry of each new one along a dimension, and how many copies that one has."""
    entries: list[int] = []
    start = 0
    for part in dimension:
        for unit in split.units.get(part.kind, range(part.units)):
            entries += range(start + unit * part.width, start + (unit + 1) * part.width)
        start += part.size
    counts = Counter(entries)
    return entries, torch.tensor([counts[entry] for entry in entries])
