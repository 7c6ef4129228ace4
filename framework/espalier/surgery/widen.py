"""Widen a model without changing its function, by splitting units into copies (Net2Net, arXiv 1511.05641).

Weights that read copied units are divided among the copies; weights that write them are copied. That is exact for any
number of FFN neurons and attention heads. For the hidden size it is exact when every channel is copied equally often,
as only then the mean and variance in norms stay the same. A head tied to the embedding cannot be divided, as the
embedding writes; the norm before it is divided instead (the family's table marks it as read).
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import torch
from torch import Tensor

from espalier.models.shape import Dimension, Parameter
from espalier.surgery.growth import Split

MomentOrder = Literal[0, 1, 2]
"""The power of the gradient in a tensor: 0 for a value, 1 for Adam's first moment, 2 for its second."""


def widen(
    tensor: Tensor,
    parameter: Parameter,
    split: Split,
    *,
    moment_order: MomentOrder,
    noise: float = 0.0,
    draw: torch.Generator,
) -> Tensor:
    """Widen one parameter, or one of its Adam moments.

    The gradient of a weight that reads one of m copies is the old one; that of a weight that writes it is 1 / m of it,
    since the weights that read the copies are divided. So the first moment is divided by m there, the second by m^2.

    Args:
        tensor: of the narrow model.
        noise: standard deviation, as a share of the tensor's own, of noise on weights that read copies. It sums to zero
            over the copies of a unit, so the function stays the same while the copies' gradients differ.

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
        if moment_order == 0 and is_read:
            tensor = tensor * shares
            if noise:
                tensor = tensor + spread * _zero_sum(tensor, dim, index, counts, draw)
        elif moment_order and not is_read:
            tensor = tensor * shares**moment_order
    return tensor


def first_copies(parameter: Parameter, split: Split) -> Tensor:
    """[shape of the wide parameter] bool: True for entries that are not new, as all units are first copies."""
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
    """The old index of each new entry along a dimension, and the number of copies of that entry."""
    entries: list[int] = []
    start = 0
    for part in dimension:
        for unit in split.units.get(part.kind, range(part.units)):
            entries += range(start + unit * part.width, start + (unit + 1) * part.width)
        start += part.size
    counts = Counter(entries)
    return entries, torch.tensor([counts[entry] for entry in entries])
