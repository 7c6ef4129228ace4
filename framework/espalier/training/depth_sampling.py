"""The depths that the microbatches of a step run: a function of the seed, the step and the place in the window."""

from __future__ import annotations

from espalier.config.growth import LessonsConfig
from espalier.distributed.streams import stream_seed
from espalier.surgery.depth_maps import sharing_order
from espalier.surgery.depth_sampling import sample_depth


def window_depths(lessons: LessonsConfig, *, held: int, seed: int, step: int, num_microbatches: int) -> tuple[int, ...]:
    """One depth for each microbatch of a step, over all workers, shallow ones first.

    Each is drawn for itself, so neither a resume nor the number of workers changes which depths a step has. They are
    handed out in order of size, because workers take turns at a window's microbatches: those that run side by side
    then hardly wait for one another. What a microbatch holds has nothing to do with its place.

    Args:
        held: layers of the model.
        step: 0 for the first update of the stage.
    """
    draws = (stream_seed(seed, "depth", step, number) / 2**63 for number in range(num_microbatches))
    return tuple(sorted(sample_depth(lessons.sampler, draw, held=held, depth=lessons.depth) for draw in draws))


def layer_orders(
    lessons: LessonsConfig, depths: tuple[int, ...], *, held: int, rank: int, num_ranks: int
) -> list[tuple[int, ...]]:
    """The layers that each of this worker's microbatches runs."""
    return [sharing_order(lessons.order, held, depth) for depth in depths[rank::num_ranks]]
