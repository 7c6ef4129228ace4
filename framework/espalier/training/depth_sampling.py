"""Which layers each microbatch of a step runs under depth sampling, as a function of seed, step and microbatch."""

from __future__ import annotations

from espalier.config.growth import DepthSamplingConfig
from espalier.distributed.streams import stream_seed
from espalier.surgery.depth_maps import sharing_order
from espalier.surgery.depth_sampling import sample_depth


def window_depths(
    sampling: DepthSamplingConfig, *, held: int, seed: int, step: int, num_microbatches: int
) -> tuple[int, ...]:
    """Sample a depth for each microbatch of a step, over all workers; sorted, shallow ones first.

    Each is drawn from a stream of its own, so neither a resume nor the number of workers changes the depths of a step.
    They are sorted because workers take the microbatches of a window in turn: those that run at the same time then have
    about the same depth and hardly wait for one another. A microbatch's samples do not depend on its place.

    Args:
        held: layers of the model.
        step: 0 for the first update of the stage.
    """
    draws = (stream_seed(seed, "depth", step, number) / 2**63 for number in range(num_microbatches))
    return tuple(sorted(sample_depth(sampling.sampler, draw, held=held, depth=sampling.depth) for draw in draws))


def layer_orders(
    sampling: DepthSamplingConfig, depths: tuple[int, ...], *, held: int, rank: int, num_ranks: int
) -> list[tuple[int, ...]]:
    """The sequence of layers that each of this worker's microbatches runs."""
    return [sharing_order(sampling.order, held, depth) for depth in depths[rank::num_ranks]]
