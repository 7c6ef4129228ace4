"""Values of parameters that start at random, as stock code starts a new head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

from espalier.models.families import layout
from espalier.models.shape import ConfigDict


def drawn(config: ConfigDict, names: Collection[str], *, seed_of: Callable[[str], int]) -> Iterator[tuple[str, Tensor]]:
    """Initial values: matrices normal with standard deviation `initializer_range`, vectors zero.

    Args:
        seed_of: a parameter's name -> the seed of its draw.
    """
    spread, parameters = float(config.get("initializer_range", 0.02)), layout(config)
    for name in names:
        shape = parameters[name].shape
        generator = torch.Generator().manual_seed(seed_of(name))
        yield name, torch.randn(shape, generator=generator) * (spread if len(shape) > 1 else 0.0)
