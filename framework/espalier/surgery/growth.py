"""A growth: the source in the parent of each layer and unit of the larger model. Torch-free."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import DepthOperator, NewMoments
from espalier.kinds.grow.kind import GrowStage
from espalier.models.families import family_of, normed_axes, resized, shape_of
from espalier.models.shape import AxisKind, ConfigDict, ModelShape
from espalier.surgery.depth_maps import depth_map

Places = tuple[int, ...]

DEFAULT_NOISE = 0.01
"""Default noise of growth in width: enough to make copies differ, too little to change their sum noticeably."""


@dataclass(frozen=True)
class Split:
    """For each axis that grows, the parent's unit that each of the child's units copies."""

    units: dict[AxisKind, Places]

    @staticmethod
    def between(parent: ModelShape, child: ModelShape, *, normed: Collection[AxisKind]) -> Split:
        """The split from the parent's sizes to the child's.

        Args:
            normed: axes over which norms compute their statistics.

        Raises:
            RefusedInput: an axis that shrinks, or a normed one whose new size is no multiple of the old one.
        """
        if faults := list(_width_faults(parent, child, normed)):
            raise RefusedInput(faults)
        maps: dict[AxisKind, Places] = {
            "hidden": _repeated(parent.hidden, child.hidden),
            "ffn": _repeated(parent.ffn, child.ffn),
            "heads": _repeated_heads(parent, child),
        }
        return Split({axis: places for axis, places in maps.items() if len(places) > getattr(parent, axis)})


@dataclass(frozen=True)
class Growth:
    """A growth from one model to a larger one.

    Attributes:
        parent: configuration of the smaller model.
        child: its shape afterwards.
        operator: how new layers are made; used only if there are some.
        new_moments: of layers and units that are new. `copied` from what they copy; `averaged` over all layers, of
            units as `copied`; `zero`. Layers and units that were there keep theirs.
        noise: see `widen`.
    """

    parent: ConfigDict
    child: ModelShape
    operator: DepthOperator = "interpolate"
    new_moments: NewMoments = "copied"
    noise: float = 0.0

    @cached_property
    def sources(self) -> tuple[int | None, ...]:
        """The source layer of each of the child's layers; None for a freshly initialised one."""
        held = shape_of(self.parent).layers
        if held == self.child.layers:
            return tuple(range(held))
        return depth_map(self.operator, held, self.child.layers)

    @cached_property
    def split(self) -> Split:
        return Split.between(shape_of(self.parent), self.child, normed=normed_axes(self.parent))

    @cached_property
    def config(self) -> ConfigDict:
        """The child's configuration. Raises RefusedInput where stock code cannot have its shape."""
        kept = [shape_of(self.parent).layers - 1 if source is None else source for source in self.sources]
        return resized(self.parent, self.child, kept_layers=kept)

    @property
    def keeps_function(self) -> bool:
        """Whether the child computes the same function as the parent."""
        return self.operator == "identity" or len(self.sources) == shape_of(self.parent).layers

    @property
    def equal_order(self) -> Places | None:
        """The sequence of the parent's layers that computes the child's function; None with random layers."""
        if self.keeps_function:
            return tuple(range(shape_of(self.parent).layers))
        sources = tuple(source for source in self.sources if source is not None)
        return sources if len(sources) == len(self.sources) else None


def _repeated(old: int, new: int) -> Places:
    return tuple(place % old for place in range(new))


def _repeated_heads(parent: ModelShape, child: ModelShape) -> Places:
    """Query heads are copied inside the group that shares their KV head, as stock attention needs."""
    groups = parent.head_groups
    old, new = parent.heads // groups, child.heads // groups
    return tuple(group * old + place for group in range(groups) for place in _repeated(old, new))


def _width_faults(parent: ModelShape, child: ModelShape, normed: Collection[AxisKind]) -> Iterator[Fault]:
    axes: tuple[AxisKind, ...] = ("hidden", "ffn", "heads")
    for axis in axes:
        old, new = getattr(parent, axis), getattr(child, axis)
        if new < old:
            yield Fault(axis, new, f"at least the {old} that are there; a `prune` stage makes models smaller")
        elif new % old and axis in normed:
            unit = {"hidden": "channel", "ffn": "neuron", "heads": "head"}[axis]
            reason = f"norms keep their statistics only when every {unit} is copied equally often"
            yield Fault(axis, new, f"a multiple of {old}: {reason}")
    if child.heads > parent.heads and child.heads % parent.head_groups:
        yield Fault("heads", child.heads, f"a multiple of the {parent.head_groups} KV heads")


def planned_growth(stage: GrowStage, model: ConfigDict) -> Growth:
    """The growth that a `grow` stage asks for.

    Raises:
        RefusedInput: sizes that cannot be reached from the model's, or that are its own; noise where no width grows;
            paths are those of the job.
    """
    child = shape_of(model).cut(**stage.target.model_dump())
    growth = Growth(model, child, stage.operator, stage.new_moments)
    path = f"stages.{stage.name}"
    try:
        _check_sizes(growth)
    except RefusedInput as refused:
        faults = [replace(fault, path=f"{path}.target.{fault.path}") for fault in refused.faults]
        raise RefusedInput(faults) from None
    widens = bool(growth.split.units)
    if stage.noise and not widens:
        wanted = "leave it out, or a target with more hidden, ffn or heads: it sets the copies of split units apart"
        raise RefusedInput([Fault(f"{path}.noise", stage.noise, wanted)])
    default = DEFAULT_NOISE if widens else 0.0
    return replace(growth, noise=default if stage.noise is None else stage.noise)


def _check_sizes(growth: Growth) -> None:
    held, layers = shape_of(growth.parent).layers, growth.child.layers
    if layers < held:
        raise RefusedInput([Fault("layers", layers, f"more than the {held} layers that are there")])
    if not growth.split.units and layers == held:
        raise RefusedInput([Fault("layers", layers, f"sizes above those there: {held} layers")])
    if family_of(growth.parent).table.layers_differ and growth.split.units:
        allowed = "the same as before: this family's layers differ in width, so only depth can grow"
        raise RefusedInput(Fault(axis, getattr(growth.child, axis), allowed) for axis in growth.split.units)
    assert growth.config
