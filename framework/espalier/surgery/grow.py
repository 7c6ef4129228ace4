"""Growth, tensor by tensor: make each parameter and moment of the larger model from those of the smaller one."""

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
from espalier.surgery.widen import MomentOrder, first_copies, widen

Read = Callable[[str], Tensor]


@dataclass(frozen=True)
class Grower:
    """Makes the tensors of the larger model, one at a time."""

    growth: Growth

    def names(self) -> tuple[str, ...]:
        """Names of the child's parameters."""
        return tuple(self._child_layout)

    def tensor(self, name: str, *, moment_order: MomentOrder, read: Read, fresh: Read, draw: torch.Generator) -> Tensor:
        """Make one parameter of the child, or one of its moments.

        Args:
            name: in the child.
            moment_order: 0 for the value, 1 and 2 for Adam's moments.
            read: the parent's tensors of this moment order, by name.
            fresh: initial values of the child, by name; asked only for layers without a source.
            draw: for noise.
        """
        place = self._child_layout[name].layer
        if place is None:
            return self._without_moments_of_new_units(self._widened(name, moment_order, read, draw), name, moment_order)
        source = self.growth.sources[place]
        if source is None:
            return fresh(name) if moment_order == 0 else self._moments_without_source(name, moment_order, read, draw)
        old_name = _renumbered(name, place, source)
        tensor = self._widened(old_name, moment_order, read, draw)
        if moment_order and is_copy(self.growth.sources, place):
            tensor = self._moments_of_copy(tensor, name, moment_order, read, draw)
        else:
            tensor = self._without_moments_of_new_units(tensor, old_name, moment_order)
        return self._as_identity(tensor, name, moment_order) if self.growth.operator == "identity" else tensor

    @cached_property
    def _parent_layout(self) -> dict[str, Parameter]:
        return layout(self.growth.parent)

    @cached_property
    def _child_layout(self) -> dict[str, Parameter]:
        return layout(self.growth.config)

    def _widened(self, old_name: str, moment_order: MomentOrder, read: Read, draw: torch.Generator) -> Tensor:
        parameter = self._parent_layout[old_name]
        return widen(
            read(old_name), parameter, self.growth.split, moment_order=moment_order, noise=self.growth.noise, draw=draw
        )

    def _without_moments_of_new_units(self, moment: Tensor, old_name: str, moment_order: MomentOrder) -> Tensor:
        """With `new_moments: zero`, set the moments of new units to 0; first copies keep theirs."""
        if moment_order == 0 or self.growth.new_moments != "zero" or not self.growth.split.units:
            return moment
        return moment * first_copies(self._parent_layout[old_name], self.growth.split)

    def _moments_of_copy(
        self, copied: Tensor, name: str, moment_order: MomentOrder, read: Read, draw: torch.Generator
    ) -> Tensor:
        if self.growth.new_moments == "zero":
            return torch.zeros_like(copied)
        return copied if self.growth.new_moments == "copied" else self._mean_over_layers(name, moment_order, read, draw)

    def _moments_without_source(
        self, name: str, moment_order: MomentOrder, read: Read, draw: torch.Generator
    ) -> Tensor:
        """Moments of a freshly initialised layer: the first is 0, the second may be the mean over the other layers."""
        if moment_order == 1 or self.growth.new_moments == "zero":
            return torch.zeros(self._child_layout[name].shape)
        return self._mean_over_layers(name, moment_order, read, draw)

    def _mean_over_layers(self, name: str, moment_order: MomentOrder, read: Read, draw: torch.Generator) -> Tensor:
        place = self._child_layout[name].layer
        assert place is not None
        held = range(shape_of(self.growth.parent).layers)
        tensors = (self._widened(_renumbered(name, place, layer), moment_order, read, draw) for layer in held)
        return sum(tensors, torch.zeros(())) / len(held)

    def _as_identity(self, tensor: Tensor, name: str, moment_order: MomentOrder) -> Tensor:
        """Identity insertion: zero the output projections of copies, so that they add nothing to the residual stream.

        Where the residual stream itself passes norms (`Family.residual_norm`), the source's last norm moves to its
        last copy. The source and the copies before that one get plain norms (weight 1, bias 0), which change nothing
        of what comes out of another norm.
        """
        place = self._child_layout[name].layer
        assert place is not None
        module, _, kind = name.rpartition(".")
        probe, copied = self._probes[place], is_copy(self.growth.sources, place)
        if copied and module in (probe.output, probe.down):
            return tensor if moment_order == 2 else torch.zeros_like(tensor)
        if not self._residual_norm or module not in probe.norms:
            return tensor
        followed = self.growth.sources[place + 1 : place + 2] == self.growth.sources[place : place + 1]
        is_last_norm = module == probe.norms[1]
        keeps_norm = not followed if is_last_norm else not copied
        if keeps_norm or moment_order == 2:
            return tensor
        return torch.ones_like(tensor) if moment_order == 0 and kind == "weight" else torch.zeros_like(tensor)

    @cached_property
    def _probes(self) -> tuple[Probe, ...]:
        return probes(self.growth.config)

    @cached_property
    def _residual_norm(self) -> bool:
        return family_of(self.growth.parent).residual_norm


def _renumbered(name: str, place: int, source: int) -> str:
    """The name of the parameter in the parent: the layer's number, which is once in the name, is replaced."""
    assert name.count(f".{place}.") == 1
    return name.replace(f".{place}.", f".{source}.")
