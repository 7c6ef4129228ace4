"""Levels optimizer and gradients: gradients that some workers have and others do not (DeepSpeed 0.19.8).

DeepSpeed packs gradients in the order of a worker's own backward pass, and adds up what lies at the same place on each
worker. A gradient that one worker lacks would shift all that come after it: wrong sums where sizes happen to agree, and
an error or a wait without end where they do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from espalier.distributed.world import World


class GradientOrder:
    """Makes all workers reduce the same gradients in the same order, or refuses.

    Gradients of parameters that may be unused are held to the end of a backward pass and follow in a fixed order, zero
    where a worker has none. Of all others the order is compared before each reduction, by a hash.
    """

    def __init__(
        self, optimizer: Any, names: Mapping[nn.Parameter, str], *, may_be_unused: Collection[str], world: World
    ) -> None:
        self._names, self._world = names, world
        groups: list[list[nn.Parameter]] = optimizer.bit16_groups
        self._held = [(one, i) for i, group in enumerate(groups) for one in group if names[one] in may_be_unused]
        self._may_be_unused = {one for one, _ in self._held}
        self._made: list[str] = []
        end = "overlapping_partition_gradients_reduce_epilogue" if optimizer.partition_gradients else "reduce_gradients"
        self._process, self._reduce = optimizer.process_gradients, getattr(optimizer, end)
        optimizer.process_gradients = self._process_later
        setattr(optimizer, end, self._reduce_all)

    def _process_later(self, parameter: nn.Parameter, group: int) -> None:
        if parameter not in self._may_be_unused:
            self._made.append(self._names[parameter])
            self._process(parameter, group)

    def _reduce_all(self, *arguments: Any, **options: Any) -> None:
        self._require_same_order()
        for parameter, group in self._held:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            self._process(parameter, group)
        self._reduce(*arguments, **options)

    def _require_same_order(self) -> None:
        """Compare the gradients that this worker has made since the last call with those of the others. Collective."""
        made, self._made = self._made, []
        number = int.from_bytes(hashlib.blake2b("\n".join(made).encode(), digest_size=7).digest(), "big")
        ends = torch.tensor([number, -number])
        dist.all_reduce(ends, dist.ReduceOp.MAX)
        if int(ends[0]) == -int(ends[1]):
            return
        of_all = [set(one) for one in self._world.gather(made)]
        some = sorted(set.union(*of_all) - set.intersection(*of_all))
        if some:
            told = (
                f"{some[0]} has a gradient on some workers only; use zero_level none, or parameters if it is in a layer"
            )
        else:
            told = "workers have made their gradients in different orders; use zero_level none"
        raise ValueError(told)
