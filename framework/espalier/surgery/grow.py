"""Growth as a function of named tensors: each parameter and moment of the larger model from the smaller one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from espalier.models.families import family_of, layout, probes, shape_of
from espalier.models.shape import Parameter, Probe
from espalier.surgery.depth_maps import is_copy
from espalier.surgery.growth import Growth
from espalier.surgery.widen import Order, first_copies, widen

Read = Callable[[str], Tensor]


@dataclass(frozen=True)
class Grower:
    """Carries a growth out, tensor by tensor."""

    growth: Growth

    def names(self) -> tuple[str, ...]:
        """Names of the child's parameters."""
        return tuple(self._child_layout)

    def tensor(self, name: str, *, order: Order, read: Read, fresh: Read, draw: torch.Generator) -> Tensor:
        """One parameter of the child, or one of its moments.

        Args:
            name: in the child.
            order: 0 for the value, 1 and 2 for Adam's moments.
            read: the parent's tensors of this order, by name.
            fresh: initial values of the child, by name; asked only for layers without a source.
            draw: for noise.
        """
        place = self._child_layout[name].layer
        if place is None:
            return self._without_moments_of_new_units(self._widened(name, order, read, draw), name, order)
        source = self.growth.sources[place]
        if source is None:
            return fresh(name) if order == 0 else self._moments_without_source(name, order, read, draw)
        old_name = _renumbered(name, place, source)
        tensor = self._widened(old_name, order, read, draw)
        if order and is_copy(self.growth.sources, place):
            tensor = self._moments_of_copy(tensor, name, order, read, draw)
        else:
            tensor = self._without_moments_of_new_units(tensor, old_name, order)
        return self._as_identity(tensor, name, order) if self.growth.operator == "identity" else tensor

    @cached_property
    def _parent_layout(self) -> dict[str, Parameter]:
        return layout(self.growth.parent)

    @cached_property
    def _child_layout(self) -> dict[str, Parameter]:
        return layout(self.growth.config)

    def _widened(self, old_name: str, order: Order, read: Read, draw: torch.Generator) -> Tensor:
        parameter = self._parent_layout[old_name]
        return widen(read(old_name), parameter, self.growth.split, order=order, noise=self.growth.noise, draw=draw)

    def _without_moments_of_new_units(self, moment: Tensor, old_name: str, order: Order) -> Tensor:
        """With `new_moments: zero`, the moments of split-off units are 0; those of the first copies stay."""
        if order == 0 or self.growth.new_moments != "zero" or not self.growth.split.units:
            return moment
        return moment * first_copies(self._parent_layout[old_name], self.growth.split)

    def _moments_of_copy(self, copied: Tensor, name: str, order: Order, read: Read, draw: torch.Generator) -> Tensor:
        if self.growth.new_moments == "zero":
            return torch.zeros_like(copied)
        return copied if self.growth.new_moments == "copied" else self._mean_over_layers(name, order, read, draw)

    def _moments_without_source(self, name: str, order: Order, read: Read, draw: torch.Generator) -> Tensor:
        """A fresh layer has no direction yet; the size of its gradients is taken to be that of the others."""
        if order == 1 or self.growth.new_moments == "zero":
            return torch.zeros(self._child_layout[name].shape)
        return self._mean_over_layers(name, order, read, draw)

    def _mean_over_layers(self, name: str, order: Order, read: Read, draw: torch.Generator) -> Tensor:
        place = self._child_layout[name].layer
        assert place is not None
        held = range(shape_of(self.growth.parent).layers)
        tensors = (self._widened(_renumbered(name, place, layer), order, read, draw) for layer in held)
        return sum(tensors, torch.zeros(())) / len(held)

    def _as_identity(self, tensor: Tensor, name: str, order: Order) -> Tensor:
        """Identity insertion: copies add nothing to the residual stream, because their output projections are zero.

        Where the residual stream itself passes norms (`Family.residual_norm`), the source's last norm moves to its
        last copy. The source and the copies before that one get plain norms (weight 1, bias 0), which change nothing
        of what comes out of another norm.
        """
        place = self._child_layout[name].layer
        assert place is not None
        module, _, kind = name.rpartition(".")
        probe, copied = self._probes[place], is_copy(self.growth.sources, place)
        if copied and module in (probe.output, probe.down):
            return tensor if order == 2 else torch.zeros_like(tensor)
        if not self._residual_norm or module not in probe.norms:
            return tensor
        followed = self.growth.sources[place + 1 : place + 2] == self.growth.sources[place : place + 1]
        is_last_norm = module == probe.norms[1]
        keeps_norm = not followed if is_last_norm else not copied
        if keeps_norm or order == 2:
            return tensor
        return torch.ones_like(tensor) if order == 0 and kind == "weight" else torch.zeros_like(tensor)

    @cached_property
    def _probes(self) -> tuple[Probe, ...]:
        return probes(self.growth.config)

    @cached_property
    def _residual_norm(self) -> bool:
        return family_of(self.growth.parent).residual_norm


def _renumbered(name: str, place: int, source: int) -> str:
    """The parent's name of a layer's parameter; a layer's number stands once in it."""
    assert name.count(f".{place}.") == 1
    return name.replace(f".{place}.", f".{source}.")
