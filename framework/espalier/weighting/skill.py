"""What answers are worth as a signal, judged by the labels, some of which may be wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def skill(answers: Array, targets: NDArray[np.generic]) -> float:
    """At most 1: how far answers agree with labels beyond chance; 0 for whoever always answers the same.

    Of classes Cohen's kappa (Cohen 1960, "A Coefficient of Agreement for Nominal Scales"); of a regression the share
    of the variance that is explained.

    Args:
        answers: [N, C] probabilities, or [N, 1] values.
        targets: [N] int64 classes, or float64 values.
    """
    if answers.shape[1] == 1:
        variance = float(targets.astype(np.float64).var())
        return 1.0 - float(((answers[:, 0] - targets) ** 2).mean()) / variance if variance > 0 else 0.0
    said, width = answers.argmax(1), answers.shape[1]
    shares = [np.bincount(found, minlength=width) / len(found) for found in (said, targets)]
    chance = float(shares[0] @ shares[1])
    return (float((said == targets).mean()) - chance) / (1.0 - chance) if chance < 1.0 else 0.0


def heard(
    answers: Array, targets: NDArray[np.generic], *, noise: float, min_skill: float, full_at_noise: float
) -> float:
    """0 to 1: how far answers are heard, by what they know and by how much there is to correct.

    Args:
        noise: the share of wrong labels.
        min_skill: heard in full from this skill, not at all below half of it, and in between as far as it goes.
        full_at_noise: heard in full from this noise, and below it as far as it goes; 0: whatever the noise.
    """
    knows = _ramp(skill(answers, targets), 0.5 * min_skill, min_skill)
    return knows * _ramp(noise, 0.0, full_at_noise)


def _ramp(value: float, none: float, full: float) -> float:
    return 1.0 if full <= none else min(1.0, max(0.0, (value - none) / (full - none)))
