"""Answers made as sure as they are right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

Array = NDArray[np.float64]

_STRENGTH = 0.1  # of the pull towards answers as they are, in samples
_SMALLEST = 1e-12


def calibrated(answers: Array, targets: NDArray[np.integer]) -> Array:
    """[N, C] softmax(a log p + b), with the number a >= 0 and the b of each class that fit the labels best.

    A model that has learnt little leans to one class, whichever, and is not sure of anything; what it knows lies in
    the order of its answers. One that has learnt too much is too sure. Guo et al. 2017, "On Calibration of Modern
    Neural Networks", section 4.2 (temperature and vector scaling; here one temperature, and a bias for each class).

    Args:
        answers: [N, C] probabilities of samples that the model has not learnt from.
        targets: [N] classes.
    """
    logs = np.log(np.clip(answers, _SMALLEST, 1.0))
    logs = logs - logs.mean(1, keepdims=True)
    labels = np.eye(answers.shape[1])[targets]
    as_they_are = np.append(1.0, np.zeros(answers.shape[1]))

    def loss(dials: Array) -> tuple[float, Array]:
        away = dials - as_they_are
        logits = dials[0] * logs + dials[1:]
        missed = softmax(logits, axis=1) - labels
        value = -(labels * log_softmax(logits, axis=1)).sum() + 0.5 * _STRENGTH * away @ away
        return value, np.append((missed * logs).sum(), missed.sum(0)) + _STRENGTH * away

    bounds = [(0.0, None)] + [(None, None)] * answers.shape[1]
    dials = minimize(loss, as_they_are, jac=True, method="L-BFGS-B", bounds=bounds).x
    return softmax(dials[0] * logs + dials[1:], axis=1)
