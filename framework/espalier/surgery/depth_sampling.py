"""Depth sampling: how many layers a pass runs while a shallow model is trained to be grown (Apollo).

Formulas of `apollo/apollo_utils.py` in the official code of arXiv 2401.09192, with the draw handed in. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from espalier.config.growth import DepthSampler

_MARGIN, _ROOM, _LEAST = 0.4, 0.6, 1e-6
"""Apollo's constants: how far the curve goes above L/N and how near to 0 it goes below 1; the least draw."""


def sample_depth(sampler: DepthSampler, draw: float, *, held: int, depth: int) -> int:
    """Sample the number of layers of one pass, from `held` to `depth`.

    * `lvps` (low-value-prioritised): p(d) falls as 1 / d^2, with a lump at `held`.
    * `edge`: mass at both ends. `uniform`: every whole number alike. `constant`: always `depth`.

    Args:
        draw: uniform in [0, 1).
        held: layers that the model has.
        depth: layers of the model that it is to become.
    """
    assert 0 <= draw < 1 and 0 < held <= depth
    if sampler == "constant":
        return depth
    if sampler == "uniform":
        return held + int(draw * (depth - held + 1))
    curve = _reciprocal if sampler == "lvps" else _sigmoid
    factor = curve(_LEAST + draw * (1 - _LEAST), depth / held)
    return int(min(max(factor, 1.0), depth / held) * held + 1e-9)  # 12 / 7 * 7 is a little less than 12


def depth_probabilities(sampler: DepthSampler, *, held: int, depth: int) -> dict[int, float]:
    """How likely each depth from `held` to `depth` is; exact, by the inverse of the curve.

    `sample_depth` falls (or rises) with the draw, so each depth has one interval of draws.
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
