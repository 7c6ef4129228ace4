"""The weights of the next epoch from those of the last and what was disagreed about: boosting, kept within bounds.

A reconstruction: DCS (arXiv 2312.07028) says that weights rise where student and teacher differ, as in AdaBoost; it
has no public code. The step is that of SAMME (Zhu et al. 2009, "Multi-class AdaBoost", section 2).
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
    weights: Array, disagreement: Array, *, num_classes: int, held: NDArray[np.bool_], config: WeightsConfig
) -> Update:
    """Raise what is disagreed about.

    Args:
        weights: [N] above 0, mean 1.
        disagreement: [N] 0 to 1.
        num_classes: K; 2 for a regression.
        held: [N] samples that are not to be raised.
    """
    error = float(weights @ disagreement / weights.sum())
    alpha = _alpha(error, num_classes, config)
    raised = weights * np.exp(alpha * np.where(held, 0.0, disagreement))
    bounded = bounded_weights(raised, floor=config.floor, ceiling=config.ceiling)
    softened = softened_weights(bounded, min_effective_share=config.min_effective_share)
    return Update(softened, error, alpha, effective_share(softened))


def effective_share(weights: Array) -> float:
    """(sum w)^2 / (N sum w^2): 1 when all are alike, 1/N when one has everything."""
    return float(weights.sum() ** 2 / (len(weights) * (weights @ weights)))


def bounded_weights(weights: Array, *, floor: float, ceiling: float) -> Array:
    """[N] mean 1, in proportion to `weights` but where floor or ceiling is reached.

    The factor is found by bisection: the mean of the clipped weights rises with it.
    """
    low, high = 0.0, ceiling / weights[weights > 0].min()
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.clip(middle * weights, floor, ceiling).mean() < 1.0 else (low, middle)
    return np.clip(high * weights, floor, ceiling)


def softened_weights(weights: Array, *, min_effective_share: float) -> Array:
    """Weights of mean 1 drawn towards 1, just so far that their effective share is not too small."""
    variance = float(weights.var())
    if min_effective_share <= 0.0 or variance == 0.0:
        return weights
    factor = math.sqrt((1.0 / min_effective_share - 1.0) / variance)
    return weights if factor >= 1.0 else 1.0 + factor * (weights - 1.0)


def _alpha(error: float, num_classes: int, config: WeightsConfig) -> float:
    """Never below 0: a student that is worse than chance would make what it disagrees about count less."""
    if config.alpha == "fixed":
        return config.rate
    chance = 1.0 - 1.0 / num_classes
    clipped = min(max(error, _EDGE), chance - _EDGE)
    odds = math.log((1.0 - clipped) / clipped)
    if config.alpha == "adaboost_half":
        return max(0.0, config.rate * 0.5 * odds)
    return max(0.0, config.rate * (odds + math.log(num_classes - 1)))
