"""The disagreement of student and teacher, or of student and label, for each sample: 0 to 1.

Predictions are [N, C] probabilities of classes, or [N, 1] values of a regression; all in float64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from espalier.config.correction import WeightsConfig

Array = NDArray[np.float64]


def disagreement(student: Array, teacher: Array | None, targets: NDArray[np.generic], config: WeightsConfig) -> Array:
    """[N] 0 to 1: the disagreement that `config` asks for; with `either` the larger of both.

    A regression counts by `tolerance` (0 or 1), or linearly as a share of the largest distance
     (AdaBoost.R2: Drucker 1997, "Improving Regressors using Boosting Techniques").

    Args:
        teacher: [N, C]; None where the disagreement with a teacher is not asked for.
        targets: [N] int64 classes, or float64 values.
    """
    parts = []
    if config.disagreement in ("teacher", "either"):
        assert teacher is not None, "disagreement with a teacher needs one"
        parts.append(_apart(student, teacher, config))
    if config.disagreement in ("label", "either"):
        parts.append(_apart(student, as_answers(targets, student.shape[1]), config))
    return np.maximum.reduce(parts)


def as_answers(targets: NDArray[np.generic], width: int) -> Array:
    """[N, C] labels in the form of predictions: one-hot, or [N, 1] the value."""
    if np.issubdtype(targets.dtype, np.floating):
        return targets.astype(np.float64)[:, None]
    return np.eye(width)[targets]


def agreement(student: Array, other: Array, *, tolerance: float | None) -> NDArray[np.bool_]:
    """[N] whether both predict the same class, or values that are at most `tolerance` apart.

    Without a tolerance values agree up to twice the root of their mean squared distance, since floats are hardly ever
    equal.
    """
    if student.shape[1] > 1:
        return student.argmax(1) == other.argmax(1)
    distance = np.abs(student - other)[:, 0]
    return distance <= (2.0 * np.sqrt((distance**2).mean()) if tolerance is None else tolerance)


def _apart(student: Array, other: Array, config: WeightsConfig) -> Array:
    if student.shape[1] > 1:
        if config.measure == "class":
            return (student.argmax(1) != other.argmax(1)).astype(np.float64)
        return 0.5 * np.abs(student - other).sum(1)
    distance = np.abs(student - other)[:, 0]
    if config.tolerance is not None:
        return (distance > config.tolerance).astype(np.float64)
    largest = distance.max()
    return distance / largest if largest > 0 else distance
