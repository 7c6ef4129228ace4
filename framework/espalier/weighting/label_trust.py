"""Label trust: the probability that a label is right, by Bayes, from predictions and the share of wrong labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from espalier.weighting.noise import LabelNoise
from espalier.weighting.residuals import residual_trust

Array = NDArray[np.float64]

_TEMPERATURES = np.geomspace(0.1, 4.0, 32)
_MOST_FITTED = 20_000


def label_trust(answers: Array, targets: NDArray[np.generic], noise: LabelNoise) -> Array:
    """[N] 0 to 1: the probability that each label is right, from held-out predictions; all 1 where `noise.low` is 0.

    For classes: the likelihood of a right label is the calibrated probability that the models give it, that of a wrong
    label the frequency of its class. So a rare class is not distrusted because models give it low probabilities. The
    prior is the class's own share of wrong labels (`LabelNoise.of_class`).

    Args:
        answers: [N, K] probabilities, or [N, 1] values, of models that were not trained on the sample.
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


def trust_of_confidence(confidence: Array, *, noise: float, num_classes: int) -> Array:
    """[N] 0 to 1: the probability that each label is right, from the models' label confidence alone.

    Args:
        confidence: [N] the probability that the models give the label.
        noise: the share of wrong labels, each of them equally likely to be any of the other classes.
        num_classes: K; 2 for a regression.
    """
    right = (1.0 - noise) * confidence
    wrong = noise * (1.0 - confidence) / (num_classes - 1)
    total = right + wrong
    return np.divide(right, total, out=np.ones_like(total), where=total > 0)


def calibrated(answers: Array, targets: NDArray[np.generic], noise: float) -> Array:
    """[N] the probability of each label after temperature scaling of predictions [N, K]."""
    logits = np.log(np.clip(answers, 1e-12, 1.0))
    return _of_labels(logits, targets, temperature(answers, targets, noise))


def temperature(answers: Array, targets: NDArray[np.generic], noise: float) -> float:
    """The temperature by which logits should be divided, by maximum likelihood; a share `noise` of labels is uniform.

    Below 1 the models are less sure than they could be, as after a short training.
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
