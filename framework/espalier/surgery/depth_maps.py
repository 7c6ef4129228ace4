"""Depth maps: from which layer of a shallow model each layer of a deeper one is copied. Torch-free."""

from __future__ import annotations

from espalier.config.faults import Fault, RefusedInput
from espalier.config.growth import DepthOperator, SharingMap


def depth_map(operator: DepthOperator, source: int, target: int) -> tuple[int | None, ...]:
    """The source layer of each of `target` layers; None for a freshly initialised one.

    * `interpolate` puts copies next to each other (Apollo, arXiv 2401.09192): 3 to 6 is 0 0 1 1 2 2.
    * `stack` repeats the whole (StackBERT; G_stack, arXiv 2405.15319): 0 1 2 0 1 2.
    * `copy_last` repeats the last layer: 0 1 2 2 2 2.
    * `identity` copies as interpolate; the copies are made identity functions (LLaMA Pro, arXiv 2401.02415).
    * `random` puts fresh layers on top: 0 1 2 - - -.

    Raises:
        RefusedInput: the target is not larger than the source.
    """
    if target <= source:
        raise RefusedInput([Fault("layers", target, f"more than the {source} layers that are there")])
    match operator:
        case "interpolate" | "identity":
            return tuple(place * source // target for place in range(target))
        case "stack":
            return tuple(place % source for place in range(target))
        case "copy_last":
            return tuple(min(place, source - 1) for place in range(target))
        case "random":
            return tuple(place if place < source else None for place in range(target))


def sharing_order(shared: SharingMap, held: int, depth: int) -> tuple[int, ...]:
    """The sequence of a model's `held` layers that a pass of `depth` layers runs; each of them at least once."""
    if depth == held:
        return tuple(range(held))
    return tuple(layer for layer in depth_map(shared, held, depth) if layer is not None)


def is_copy(sources: tuple[int | None, ...], place: int) -> bool:
    """Whether the layer at `place` is a copy: an earlier layer, the original, has the same source."""
    return sources[place] is not None and sources[place] in sources[:place]
