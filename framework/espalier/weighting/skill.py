"""What answers are worth as a signal, judged by the labels, some of which may be wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from espalier.weighting.noise import LabelNoise

Array = NDArray[np.float64]

_ENOUGH = 100  # samples of a class
_LEAST_RIGHT = 0.4  # skill is not raised beyond what this share of right labels would hide


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


def skill_of_right(answers: Array, targets: NDArray[np.generic], noise: LabelNoise) -> float:
    """At most 1: the skill that answers would show if no label were wrong, so that wrong ones do not hide it.

    Of a label that is any other class at random, kappa is 1 - share * K / (K - 1) of what it would be; of one that is
    drawn anew, the correlation of values 1 - share. Of a regression the share of the variance that a line through the
    answers explains.
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
    """[K] 0 to 1: what answers [N, K] know of each class: how many of its right labels they give.

    1 of a class with enough samples to be learnt: if it is answered seldom all the same, its labels are doubtful, and
    that is what is to be heard.
    """
    width = answers.shape[1]
    count = np.bincount(targets, minlength=width)
    given = np.bincount(targets, weights=answers.argmax(1) == targets, minlength=width)
    found = given / np.maximum(count * np.maximum(1.0 - noise.of_class, 0.5), 1.0)
    return np.where(count >= _ENOUGH, 1.0, np.minimum(1.0, found))


def heard(known: float, *, noise: float, min_skill: float, full_at_noise: float) -> float:
    """0 to 1: how far answers are heard, by what they know and by how much there is to correct.

    Args:
        known: their skill.
        noise: the share of wrong labels.
        min_skill: heard in full from this skill, not at all below half of it, and in between as far as it goes.
        full_at_noise: heard in full from this noise, and below it as far as it goes; 0: whatever the noise.
    """
    return heard_of(known, min_skill) * _ramp(noise, 0.0, full_at_noise)


def heard_of(known: float, min_skill: float) -> float:
    """0 to 1: how far answers of this skill are heard."""
    return _ramp(known, 0.5 * min_skill, min_skill)


def _ramp(value: float, none: float, full: float) -> float:
    return 1.0 if full <= none else min(1.0, max(0.0, (value - none) / (full - none)))
