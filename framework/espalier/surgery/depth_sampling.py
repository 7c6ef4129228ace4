"""Depth sampling: distributions of the number of layers that a pass runs before growth (Apollo). Torch-free.

Formulas of `apollo/apollo_utils.py` in the official code of arXiv 2401.09192; the uniform draw is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from espalier.config.growth import DepthSampler

_MARGIN, _ROOM, _LEAST = 0.4, 0.6, 1e-6
"""Apollo's constants: the curve's margins above L/N and below 1, and the smallest draw."""


def sample_depth(sampler: DepthSampler, draw: float, *, held: int, depth: int) -> int:
    """Sample the number of layers of one pass, from `held` to `depth`.

    * `lvps` (low-value-prioritised): p(d) falls as 1 / d^2, with extra mass at `held`.
    * `edge`: mass at both ends. `uniform`: all depths equally likely. `constant`: always `depth`.

    Args:
        draw: uniform in [0, 1).
        held: number of layers of the model.
        depth: number of layers of the model that it will be grown into.
    """
    assert 0 <= draw < 1 and 0 < held <= depth
    if sampler == "constant":
        return depth
    if sampler == "uniform":
        return held + int(draw * (depth - held + 1))
    curve = _reciprocal if sampler == "lvps" else _sigmoid
    factor = curve(_LEAST + draw * (1 - _LEAST), depth / held)
    return int(min(max(factor, 1.0), depth / held) * held + 1e-9)  # 12 / 7 * 7 is slightly below 12 in floats


def depth_probabilities(sampler: DepthSampler, *, held: int, depth: int) -> dict[int, float]:
    """The exact probability of each depth from `held` to `depth`.

    `sample_depth` is monotonic in the draw, so each depth has one interval of draws.
    """
    if sampler in ("constant", "uniform"):
        depths = range(held if sampler == "uniform" else depth, depth + 1)
        return {one: 1 / len(depths) for one in depths}
    at_least = {one: _share_at_least(sampler, one, held=held, depth=depth) for one in range(held, depth + 2)}
    return {one: at_least[one] - at_least[one + 1] for one in range(held, depth + 1)}


def mean_depth(sampler: DepthSampler, *, held: int, depth: int) -> float:
    """The expected number of layers of a pass."""
    return sum(one * share for one, share in depth_probabilities(sampler, held=held, depth=depth).items())


def _share_at_least(sampler: DepthSampler, least: int, *, held: int, depth: int) -> float:
    if least <= held:
        return 1.0
    if least > depth:
        return 0.0
    inverse: Callable[[float, float], float] = _inverse_reciprocal if sampler == "lvps" else _inverse_sigmoid
    draw = (inverse(least / held, depth / held) - _LEAST) / (1 - _LEAST)
    return min(1.0, max(0.0, draw))


def _reciprocal(x: float, ratio: float) -> float:
    m, n = _reciprocal_terms(ratio)
    return m / (x + n)


def _inverse_reciprocal(factor: float, ratio: float) -> float:
    m, n = _reciprocal_terms(ratio)
    return m / factor - n


def _reciprocal_terms(ratio: float) -> tuple[float, float]:
    high = ratio + _MARGIN
    n = (high * _LEAST - _ROOM) / (_ROOM - high)
    return _ROOM * (n + 1), n


def _sigmoid(x: float, ratio: float) -> float:
    return (ratio + _MARGIN - _ROOM) / (1 + math.exp(20 * (x - 0.5))) + _ROOM


def _inverse_sigmoid(factor: float, ratio: float) -> float:
    return 0.5 + math.log((ratio + _MARGIN - _ROOM) / (factor - _ROOM) - 1) / 20
