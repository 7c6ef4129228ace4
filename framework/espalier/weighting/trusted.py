"""How far each label is trusted, from held-out answers and the noise that they show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from espalier.weighting.noise import LabelNoise
from espalier.weighting.residuals import residual_trust

Array = NDArray[np.float64]

_TEMPERATURES = np.geomspace(0.1, 4.0, 32)
_MOST_FITTED = 20_000


def label_trust(answers: Array, targets: NDArray[np.generic], noise: LabelNoise) -> Array:
    """[N] 0 to 1: the probability that a label is right, by Bayes; all 1 where the lower end of the noise is 0.

    Of classes: a right label of a class comes with the (calibrated) probability that the models give it, a wrong one as
    often as the class is frequent. So a rare class, of which the models expect little, is not distrusted for it; its
    own share of wrong labels counts (`LabelNoise.of_class`).

    Args:
        answers: [N, K] probabilities, or [N, 1] values.
        targets: [N] int64 classes, or float64 values.
    """
    if noise.low <= 0.0:
        return np.ones(len(targets))
    if answers.shape[1] == 1:
        values = targets.astype(np.float64)
        scale, freedom = noise.separation, noise.freedom
        return residual_trust(answers[:, 0], values, noise=noise.low, scale=scale, freedom=freedom)
    frequency = np.bincount(targets, minlength=answers.shape[1]) / len(targets)
    lift = calibrated(answers, targets, noise.share) / frequency[targets]
    share = noise.of_class[targets]
    right = (1.0 - share) * lift
    return right / np.maximum(right + share, 1e-300)


def calibrated(answers: Array, targets: NDArray[np.generic], noise: float) -> Array:
    """[N] the probability of each label once answers [N, K] are as sure as they should be of right labels."""
    logits = np.log(np.clip(answers, 1e-12, 1.0))
    return _of_labels(logits, targets, temperature(answers, targets, noise))


def temperature(answers: Array, targets: NDArray[np.generic], noise: float) -> float:
    """What logits are to be divided by, by maximum likelihood where a share of labels is any class at random.

    Below 1 the models are less sure than they could be: they were not trained for long.
    """
    some = np.linspace(0, len(targets) - 1, min(len(targets), _MOST_FITTED)).astype(np.int64)
    logits, labels = np.log(np.clip(answers[some], 1e-12, 1.0)), targets[some]
    floor = noise / answers.shape[1]
    fits = [np.log((1.0 - noise) * _of_labels(logits, labels, t) + floor + 1e-12).sum() for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmax(fits))])


def _of_labels(logits: Array, labels: NDArray[np.generic], scale: float) -> Array:
    scaled = logits / scale
    scaled = scaled - scaled.max(1, keepdims=True)
    return np.exp(np.take_along_axis(scaled, labels[:, None].astype(np.int64), axis=1)[:, 0]) / np.exp(scaled).sum(1)
