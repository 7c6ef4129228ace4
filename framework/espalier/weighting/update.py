"""The weights of the next epoch from those of the last and what was disagreed about: boosting, kept within bounds.

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

_EDGE = 1e-3  # how near the error may come to 0 or to chance, where alpha has no bound or no sign

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Update:
    """One revision.

    Attributes:
        weights: [N] mean 1, within floor and ceiling.
        error: the weighted mean of the disagreement, as measured.
        alpha: the step that was taken: a sample of disagreement 1 is raised by exp(alpha).
        effective_share: (sum w)^2 / (N sum w^2) of the new weights.
    """

    weights: Array
    error: float
    alpha: float
    effective_share: float


def revise(
    weights: Array,
    disagreement: Array,
    *,
    num_classes: int,
    held: NDArray[np.bool_],
    config: WeightsConfig,
    rate: float,
    counts: NDArray[np.bool_] | None = None,
) -> Update:
    """Raise what is disagreed about.

    Args:
        weights: [N] above 0, mean 1, within floor and ceiling.
        disagreement: [N] 0 to 1.
        num_classes: K; 2 for a regression.
        rate: the step size.
        held: [N] samples that are not to be raised.
        counts: [N] samples that the error is of, some at least; all when left out.
    """
    part = slice(None) if counts is None else counts
    mass = float(weights[part].sum())
    error = float(weights[part] @ disagreement[part]) / mass if mass > 0 else 0.0
    alpha = _alpha(error, num_classes, alpha=config.alpha, rate=rate)
    raised = weights * np.exp(alpha * np.where(held, 0.0, disagreement))
    bounded = bounded_weights(raised, floor=config.floor, ceiling=config.ceiling)
    softened = softened_weights(bounded, min_effective_share=config.min_effective_share, held=held)
    return Update(softened, error, alpha, effective_share(softened))


def effective_share(weights: Array) -> float:
    """(sum w)^2 / (N sum w^2): 1 when all are alike, 1/N when one has everything."""
    return float(weights.sum() ** 2 / (len(weights) * (weights @ weights)))


def bounded_weights(weights: Array, *, floor: float, ceiling: float) -> Array:
    """[N] mean 1, in proportion to `weights` but where floor or ceiling is reached.

    What a common factor would carry past a bound is fixed there, until nothing is (Bitran and Hax 1981,
    "Disaggregation and Resource Allocation Using Convex Knapsack Problems with Bounded Variables"). Weights of 0 share
    what the others may not take.
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


def softened_weights(weights: Array, *, min_effective_share: float, held: NDArray[np.bool_]) -> Array:
    """Weights of mean 1 drawn towards one another, just so far that their effective share is not too small.

    Held ones are drawn down but not up; the share is missed where that leaves too little to draw.
    """
    squares = len(weights) / min_effective_share if min_effective_share > 0.0 else math.inf
    if weights @ weights <= squares:
        return weights
    drawn = np.ones(len(weights), dtype=bool)
    while (low := drawn & held & (weights < weights[drawn].mean())).any():
        drawn &= ~low
    kept, centre = weights[~drawn], float(weights[drawn].mean())
    apart = weights[drawn] - centre
    room = squares - float(kept @ kept) - len(apart) * centre**2
    spread = float(apart @ apart)
    softened = weights.copy()
    softened[drawn] = centre + (math.sqrt(max(0.0, room) / spread) if spread > 0 else 0.0) * apart
    return softened


def _alpha(error: float, num_classes: int, *, alpha: str, rate: float) -> float:
    """The step, never below 0: a student that is worse than chance would make what it disagrees about count less.

    `samme` takes the error as a share of what chance gives, 1 - 1/K, and then AdaBoost's log-odds: with two classes
    that is SAMME, and with any number the step is 0 at chance. SAMME's own log-odds + log(K - 1) is 0 there, too, but
    of 77 classes it raises a sample tenfold in an epoch where two fifths are disagreed about: it is meant for the votes
    of many weak models, and here one model learns on.
    """
    if alpha == "fixed":
        return rate
    chance = 1.0 - 1.0 / num_classes
    if alpha == "adaboost_half":
        clipped = min(max(error, _EDGE), chance - _EDGE)
        return max(0.0, rate * 0.5 * math.log((1.0 - clipped) / clipped))
    clipped = min(max(0.5 * error / chance, _EDGE), 0.5 - _EDGE)
    return max(0.0, rate * math.log((1.0 - clipped) / clipped))
