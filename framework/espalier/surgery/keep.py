"""The indices that pruning keeps, and their selection from a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from espalier.models.shape import Axis, Dimension, ModelShape, Parameter

Indices = tuple[int, ...]


@dataclass(frozen=True)
class Keep:
    """The layers and units of the parent to keep, as ascending indices.

    Attributes:
        layers: kept layers.
        hidden: kept hidden channels, the same everywhere.
        ffn: for each kept layer, its kept neurons, the same number in every layer. Indices beyond the width of a
            narrower layer are ignored.
        heads: for each kept layer, its kept query heads, the same number in every layer and group of heads.
    """

    layers: Indices
    hidden: Indices
    ffn: tuple[Indices, ...]
    heads: tuple[Indices, ...]

    def __post_init__(self) -> None:
        assert len(self.layers) == len(self.ffn) == len(self.heads), "one list of neurons and heads per kept layer"
        for indices in (self.layers, self.hidden, *self.ffn, *self.heads):
            assert indices and all(a < b for a, b in pairwise(indices)), "ascending indices"
        assert len({len(indices) for indices in self.ffn}) == 1, "uniform width"
        assert len({len(indices) for indices in self.heads}) == 1, "uniform heads"

    @staticmethod
    def everything(shape: ModelShape) -> Keep:
        """Keep everything."""
        ffn, heads = tuple(range(shape.ffn)), tuple(range(shape.heads))
        layers = tuple(range(shape.layers))
        return Keep(layers, tuple(range(shape.hidden)), (ffn,) * shape.layers, (heads,) * shape.layers)

    def shape(self, parent: ModelShape) -> ModelShape:
        """The shape of the pruned model."""
        return parent.cut(
            layers=len(self.layers), hidden=len(self.hidden), ffn=len(self.ffn[0]), heads=len(self.heads[0])
        )

    def place(self, layer: int | None) -> int | None:
        """The new index of a layer of the parent; None for a dropped one, and for None."""
        return self.layers.index(layer) if layer in self.layers else None


def select(tensor: Tensor, parameter: Parameter, keep: Keep) -> Tensor:
    """Select the kept part of a parameter, or of one of its optimizer moments.

    Args:
        tensor: of the parameter's shape, any dtype, on any device.
        parameter: the parent's, outside the layers or in a kept layer.
        keep: the units to keep.

    Returns:
        A new contiguous tensor, or the given one if all of it is kept.
    """
    assert tuple(tensor.shape) == parameter.shape, f"{tuple(tensor.shape)} is not {parameter.shape}"
    for dim, dimension in enumerate(parameter.dimensions):
        kept = _kept_entries(dimension, keep, keep.place(parameter.layer))
        if len(kept) < tensor.shape[dim]:
            tensor = tensor.index_select(dim, torch.tensor(kept, device=tensor.device))
    return tensor


def _kept_entries(dimension: Dimension, keep: Keep, place: int | None) -> list[int]:
    entries: list[int] = []
    start = 0
    for part in dimension:
        units = _kept_units(part, keep, place)
        entries += [start + unit * part.width + entry for unit in units for entry in range(part.width)]
        start += part.size
    return entries


def _kept_units(part: Axis, keep: Keep, place: int | None) -> Sequence[int]:
    if part.kind == "hidden":
        return keep.hidden
    if part.kind in ("ffn", "heads"):
        assert place is not None, "FFN neurons and heads live in kept layers"
        kept = keep.ffn[place] if part.kind == "ffn" else keep.heads[place]
        return [unit for unit in kept if unit < part.units]  # a layer may be narrower than the widest
    return range(part.units)
