"""Boosting: raise the weights of samples with disagreement, within bounds.

A reconstruction: DCS (arXiv 2312.07028) says that weights rise where student and teacher differ, as in AdaBoost; it
has no public code. The step is that of AdaBoost, the error scaled by the number of classes (see `_alpha`; compare
SAMME, Zhu et al. 2009, "Multi-class AdaBoost", section 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from espalier.config.correction import WeightsConfig

_EDGE = 1e-3  # the error is kept this far from 0, where alpha is unbounded, and from chance, where it changes sign

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BoostingStep:
    """New weights and how they came about.

    Attributes:
        weights: [N] mean 1, within floor and ceiling.
        error: the weighted mean of the disagreement.
        alpha: the step size: the weight of a sample with disagreement 1 is multiplied by exp(alpha).
        effective_share: (sum w)^2 / (N sum w^2) of the new weights.
    """

    weights: Array
    error: float
    alpha: float
    effective_share: float


def boost(
    weights: Array,
    disagreement: Array,
    *,
    num_classes: int,
    not_raised: NDArray[np.bool_],
    config: WeightsConfig,
    rate: float,
    counts: NDArray[np.bool_] | None = None,
) -> BoostingStep:
    """Raise the weights of samples by their disagreement.

    Args:
        weights: [N] above 0, mean 1, within floor and ceiling.
        disagreement: [N] 0 to 1.
        num_classes: K; 2 for a regression.
        rate: factor of alpha; with `alpha: fixed` alpha itself.
        not_raised: [N] samples whose weights are not to be raised.
        counts: [N] samples that enter the error, at least one; all when left out.
    """
    part = slice(None) if counts is None else counts
    mass = float(weights[part].sum())
    error = float(weights[part] @ disagreement[part]) / mass if mass > 0 else 0.0
    alpha = _alpha(error, num_classes, alpha=config.alpha, rate=rate)
    raised = weights * np.exp(alpha * np.where(not_raised, 0.0, disagreement))
    bounded = bounded_weights(raised, floor=config.floor, ceiling=config.ceiling)
    softened = softened_weights(bounded, min_effective_share=config.min_effective_share, not_raised=not_raised)
    return BoostingStep(softened, error, alpha, effective_share(softened))


def effective_share(weights: Array) -> float:
    """(sum w)^2 / (N sum w^2): 1 for equal weights, 1/N when one sample has all the weight."""
    return float(weights.sum() ** 2 / (len(weights) * (weights @ weights)))


def bounded_weights(weights: Array, *, floor: float, ceiling: float) -> Array:
    """[N] weights of mean 1, proportional to `weights` except where the floor or the ceiling is reached.

    Weights that a common factor would carry past a bound are fixed at it, until none is left (Bitran and Hax 1981,
    "Disaggregation and Resource Allocation Using Convex Knapsack Problems with Bounded Variables"). Mass that the
    others cannot take goes to weights of 0 in equal parts.
    """
    found = np.empty(len(weights))
    free, mass = np.arange(len(weights)), float(len(weights))
    while len(free):
        largest = weights[free].max()  # as shares of it no sum over- or underflows
        shares = weights[free] / largest if largest > 0 else np.ones(len(free))
        scaled = shares * (mass / shares.sum())
        found[free] = np.clip(scaled, floor, ceiling)
        low, high = scaled < floor, scaled > ceiling
        added, taken = float((floor - scaled[low]).sum()), float((scaled[high] - ceiling).sum())
        fixed = low if added > taken else high
        if not fixed.any():
            break
        mass -= float(found[free[fixed]].sum())
        free = free[~fixed]
    return found


def softened_weights(weights: Array, *, min_effective_share: float, not_raised: NDArray[np.bool_]) -> Array:
    """[N] weights of mean 1, shrunk towards their mean until the effective share is at least `min_effective_share`.

    Weights of `not_raised` samples are lowered but never raised; where that leaves too little room, the share stays
    below the minimum.
    """
    squares = len(weights) / min_effective_share if min_effective_share > 0.0 else math.inf
    if weights @ weights <= squares:
        return weights
    drawn = np.ones(len(weights), dtype=bool)
    while (low := drawn & not_raised & (weights < weights[drawn].mean())).any():
        drawn &= ~low
    kept, centre = weights[~drawn], float(weights[drawn].mean())
    apart = weights[drawn] - centre
    room = squares - float(kept @ kept) - len(apart) * centre**2
    spread = float(apart @ apart)
    softened = weights.copy()
    softened[drawn] = centre + (math.sqrt(max(0.0, room) / spread) if spread > 0 else 0.0) * apart
    return softened


def _alpha(error: float, num_classes: int, *, alpha: str, rate: float) -> float:
    """The step size alpha, at least 0: below 0 a student worse than chance would lower weights where it disagrees.

    `samme` divides the error by its value at chance, 1 - 1/K, and takes AdaBoost's log-odds: with two classes that is
    SAMME, and with any number the step is 0 at chance. SAMME's own log-odds + log(K - 1) is 0 there as well, but with
    77 classes and a disagreement on two fifths of the samples it multiplies weights by ten in one epoch: it is made for
    votes of many weak models, while here one model is trained further.
    """
    if alpha == "fixed":
        return rate
    chance = 1.0 - 1.0 / num_classes
    if alpha == "adaboost_half":
        clipped = min(max(error, _EDGE), chance - _EDGE)
        return max(0.0, rate * 0.5 * math.log((1.0 - clipped) / clipped))
    clipped = min(max(0.5 * error / chance, _EDGE), 0.5 - _EDGE)
    return max(0.0, rate * math.log((1.0 - clipped) / clipped))
