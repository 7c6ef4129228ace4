"""The skill of predictions: how far they agree with the labels beyond chance, corrected for wrong labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from espalier.weighting.noise import LabelNoise

Array = NDArray[np.float64]

_ENOUGH = 100  # samples from which a class counts as learnt
_LEAST_RIGHT = 0.4  # the correction for wrong labels divides by no less than this


def skill(answers: Array, targets: NDArray[np.generic]) -> float:
    """At most 1: how far predictions agree with labels beyond chance; 0 for a constant prediction.

    For classes Cohen's kappa (Cohen 1960, "A Coefficient of Agreement for Nominal Scales"); for a regression the
    explained share of the variance.

    Args:
        answers: [N, C] probabilities, or [N, 1] values.
        targets: [N] int64 classes, or float64 values.
    """
    if answers.shape[1] == 1:
        variance = float(targets.astype(np.float64).var())
        return (
            1.0 - float(((answers[:, 0] - targets.astype(np.float64)) ** 2).mean()) / variance if variance > 0 else 0.0
        )
    said, width = answers.argmax(1), answers.shape[1]
    shares = [np.bincount(found, minlength=width) / len(found) for found in (said, targets)]
    chance = float(shares[0] @ shares[1])
    return (float((said == targets).mean()) - chance) / (1.0 - chance) if chance < 1.0 else 0.0


def skill_of_right(answers: Array, targets: NDArray[np.generic], noise: LabelNoise) -> float:
    """At most 1: an estimate of the skill that predictions would have if no label were wrong.

    If wrong labels are uniform over the other classes, they multiply kappa by 1 - share * K / (K - 1); if they are
    drawn from all labels, they multiply the correlation of values by 1 - share. Both factors are divided out. For a
    regression the result is the share of the variance that a line through the predictions explains.
    """
    width = answers.shape[1]
    if width > 1:
        return min(1.0, skill(answers, targets) / max(1.0 - noise.share * width / (width - 1), _LEAST_RIGHT))
    right = max(1.0 - noise.share, _LEAST_RIGHT)
    values = targets.astype(np.float64)
    if np.ptp(values) == 0.0 or np.ptp(answers) == 0.0:
        return 0.0
    return min(1.0, max(0.0, float(np.corrcoef(answers[:, 0], values)[0, 1]) / right) ** 2)


def class_skill(answers: Array, targets: NDArray[np.generic], noise: LabelNoise) -> Array:
    """[K] 0 to 1: the skill of predictions [N, K] on each class: the share of its right labels that they predict.

    1 for a class with enough samples to be learnt: if models still seldom predict it, its labels are doubtful, and the
    signal should say so.
    """
    width = answers.shape[1]
    count = np.bincount(targets, minlength=width)
    given = np.bincount(targets, weights=answers.argmax(1) == targets, minlength=width)
    found = given / np.maximum(count * np.maximum(1.0 - noise.of_class, 0.5), 1.0)
    return np.where(count >= _ENOUGH, 1.0, np.minimum(1.0, found))
