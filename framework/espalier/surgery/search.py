"""Search for the shape to prune a model to. Torch-free, as `espalier plan` runs it, too."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from espalier.config.exact import as_written
from espalier.config.faults import Fault, RefusedInput
from espalier.kinds.prune.kind import SearchConfig, TargetConfig
from espalier.models.families import misfit, num_parameters, shape_of
from espalier.models.shape import ConfigDict, ModelShape

_AXES = ("layers", "hidden", "ffn", "heads")

# An MLP can be cut further than attention or the residual stream, which all layers use.
_WEIGHT = {"ffn": 1.0, "layers": 1.0, "hidden": 2.0, "heads": 2.0}

# A shape this far below the target, or less, is close enough to be judged by its cut penalty alone.
_CLOSE = 0.02


def find_shape(config: ConfigDict, target: TargetConfig, search: SearchConfig, *, path: str = "target") -> ModelShape:
    """Find the shape to prune a model to.

    Sizes of axes are taken as given. For a number of parameters, the shape with the smallest `cut_penalty` among those
    just below it is chosen.

    Args:
        config: of the parent.
        target: what is wanted.
        search: axes, multiples and limits of the search for a number of parameters.
        path: the setting that holds the target, for messages.

    Raises:
        RefusedInput: a shape larger than the parent or not supported by stock code, or no shape within the limits.
    """
    parent = shape_of(config)
    if target.parameters is None:
        return _given(config, target, parent, path)
    largest = num_parameters(config)
    if target.parameters > largest:
        wanted = f"at most the parent's {largest:,}: prune makes models smaller"
        raise RefusedInput([Fault(f"{path}.parameters", target.parameters, wanted)])
    searches = list(_axis_searches(parent, search))
    fitting = [shape for one in searches if (shape := one.largest(config, target.parameters))]
    if not fitting:
        lowest = [one.first_loadable(config, reversed(one.sizes)) or parent for one in searches]
        smallest = min(num_parameters(config, shape) for shape in lowest)
        raise RefusedInput([_out_of_reach(smallest, target, search, path)])
    counted = [(shape, num_parameters(config, shape)) for shape in fitting]
    close = [(shape, count) for shape, count in counted if count >= (1 - _CLOSE) * target.parameters]
    if not close:
        return max(counted, key=lambda pair: pair[1])[0]
    return min(close, key=lambda pair: (cut_penalty(pair[0], parent, search), -pair[1]))[0]


def cut_penalty(shape: ModelShape, parent: ModelShape, search: SearchConfig) -> float:
    """Estimate the harm of a cut: the weighted sum over axes of (cut share / limit of the axis) squared.

    Squares spread a cut over the axes, since the least important units of each cost little. Depth has half the limit of
    width by default, so width is cut before depth (arXiv 2407.14679, best practice 4). 0 for the parent itself.
    """
    return sum(
        _WEIGHT[axis] * ((1 - getattr(shape, axis) / getattr(parent, axis)) / _limit(axis, search)) ** 2
        for axis in _AXES
    )


def _given(config: ConfigDict, target: TargetConfig, parent: ModelShape, path: str) -> ModelShape:
    given = {axis: getattr(target, axis) for axis in _AXES if getattr(target, axis) is not None}
    faults = []
    for axis, size in given.items():
        if size > (largest := getattr(parent, axis)):
            wanted = f"at most the parent's {largest}: prune makes models smaller"
            faults.append(Fault(f"{path}.{axis}", size, wanted))
    shape = parent.cut(**given)
    if shape.heads % parent.head_groups:
        wanted = f"a multiple of the {parent.head_groups} KV heads, which stay"
        faults.append(Fault(f"{path}.heads", shape.heads, wanted))
    fault = misfit(config, shape) if not faults else None
    if fault:
        faults.append(replace(fault, path=f"{path}.{fault.path}"))
    if faults:
        raise RefusedInput(faults)
    return shape


@dataclass(frozen=True)
class _AxisSearch:
    """Shapes along one axis, from the largest down; made lazily, as there can be half a million."""

    base: ModelShape
    axis: str
    sizes: list[int]

    def shape(self, size: int) -> ModelShape:
        return self.base.cut(**{self.axis: size})

    def largest(self, config: ConfigDict, limit: int) -> ModelShape | None:
        """The largest supported shape with at most `limit` parameters; smaller ones have a larger penalty."""

        def fits(size: int) -> bool:
            return num_parameters(config, self.shape(size)) <= limit

        return self.first_loadable(config, self.sizes[bisect_left(self.sizes, True, key=fits) :])

    def first_loadable(self, config: ConfigDict, sizes: Iterable[int]) -> ModelShape | None:
        shapes = (self.shape(size) for size in sizes)
        return next((shape for shape in shapes if not misfit(config, shape)), None)


def _axis_searches(parent: ModelShape, search: SearchConfig) -> Iterator[_AxisSearch]:
    """Yield one search along the axis with the most sizes for each combination of the others."""
    sizes = {axis: _sizes(axis, parent, search) for axis in dict.fromkeys(search.axes)}
    *others, last = sorted(sizes, key=lambda axis: (len(sizes[axis]), axis))
    for choice in itertools.product(*(sizes[axis] for axis in others)):
        yield _AxisSearch(parent.cut(**dict(zip(others, choice, strict=True))), last, sizes[last])


def _sizes(axis: str, parent: ModelShape, search: SearchConfig) -> list[int]:
    """The sizes of an axis within its limit, from the parent's down."""
    size = getattr(parent, axis)
    grain = parent.head_groups if axis == "heads" else getattr(search, f"{axis}_multiple_of")
    lowest = max(1, (1 - as_written(_limit(axis, search))) * size)
    return [size] + [n for n in range((size - 1) // grain * grain, 0, -grain) if n >= lowest]


def _limit(axis: str, search: SearchConfig) -> float:
    return search.max_depth_cut if axis == "layers" else search.max_width_cut


def _out_of_reach(smallest: int, target: TargetConfig, search: SearchConfig, path: str) -> Fault:
    wanted = (
        f"at least {smallest:,}, the smallest that the search reaches on {', '.join(search.axes)}; "
        "add axes or raise `search.max_width_cut` or `search.max_depth_cut`"
    )
    return Fault(f"{path}.parameters", target.parameters, wanted)
