"""Label noise of a regression: a robust mixture model of the residuals of right and wrong labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_FREEDOMS = (3.0, 5.0, 10.0, 1e4)  # of the t distribution of right labels' residuals; the last is a normal one
_SHARES = np.concatenate([[0.0], np.geomspace(0.004, 0.8, 60)])
_SCALES = np.geomspace(0.5, 1.4, 16)  # in typical distances
_DROP = 1.353  # of the log-likelihood: half the chi-squared quantile of a one-sided 95 % bound
_BINS = 256
_ROUNDS = 20
_MOST_FITTED = 5_000


@dataclass(frozen=True)
class ResidualNoise:
    """A fit of two kinds of labels: right ones close to the predictions, wrong ones drawn from all labels.

    Attributes:
        share, low, high: the share of wrong ones and the ends of its interval.
        scale: of the t distribution of the residuals of right ones.
        freedom: its degrees of freedom.
    """

    share: float
    low: float
    high: float
    scale: float
    freedom: float


def residual_noise(answers: Array, targets: Array, *, most: float = 1.0) -> ResidualNoise:
    """Fit the mixture by maximum likelihood; the interval comes from the profile over scale and freedom.

    Args:
        most: the largest share to consider, because samples of which models know little have large residuals, too.
    """
    some = np.linspace(0, len(targets) - 1, min(len(targets), _MOST_FITTED)).astype(np.int64)
    distance = (on_line(answers, targets) - targets)[some]
    typical = 1.4826 * float(np.median(np.abs(distance))) or float(np.sqrt((distance**2).mean()))
    if typical == 0.0 or np.ptp(targets) == 0.0:
        return ResidualNoise(0.0, 0.0, 0.0, typical, _FREEDOMS[-1])
    wrong = density(targets)[some]
    kinds = [(scale * typical, freedom) for scale in _SCALES for freedom in _FREEDOMS]
    shares = np.append(_SHARES[most > _SHARES], most)
    fit = np.array([_likelihoods(distance, wrong, shares, *kind) for kind in kinds])
    profile, best = fit.max(0), int(fit.max(0).argmax())
    within = shares[profile >= profile[best] - _DROP]
    scale, freedom = kinds[int(fit[:, best].argmax())]
    return ResidualNoise(float(shares[best]), float(within.min()), float(within.max()), float(scale), freedom)


def residual_trust(answers: Array, targets: Array, *, noise: float, scale: float, freedom: float) -> Array:
    """[N] 0 to 1: the probability that each label is right, by Bayes: residual density against label density."""
    if noise <= 0.0 or scale <= 0.0:
        return np.ones(len(targets))
    right = (1.0 - noise) * student_t((on_line(answers, targets) - targets) / scale, freedom) / scale
    wrong = noise * density(targets)
    return right / np.maximum(right + wrong, 1e-300)


def on_line(answers: Array, targets: Array) -> Array:
    """[N] predictions on the scale of the labels, by robust linear regression of labels on predictions.

    Models after a short training predict values too close to the mean. Iteratively reweighted least squares with the
    weights of a t distribution.
    """
    line = answers
    for _ in range(_ROUNDS):
        distance = line - targets
        typical = 1.4826 * float(np.median(np.abs(distance)))
        if typical == 0.0 or np.ptp(answers) == 0.0:
            return line
        weight = 1.0 / (1.0 + (distance / typical) ** 2 / _FREEDOMS[0])
        centre, middle = (float(weight @ values / weight.sum()) for values in (answers, targets))
        slope = float(weight @ ((answers - centre) * (targets - middle)) / (weight @ (answers - centre) ** 2))
        line = middle + slope * (answers - centre)
    return line


def student_t(value: Array, freedom: float) -> Array:
    """The density of the t distribution."""
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    return constant * (1.0 + value**2 / freedom) ** (-(freedom + 1) / 2)


def density(targets: Array) -> Array:
    """[N] the density of labels at each label: a histogram, smoothed with a bandwidth by Scott's rule."""
    spread = float(targets.std())
    width = spread * len(targets) ** -0.2
    edges = np.linspace(targets.min() - 3 * width, targets.max() + 3 * width, _BINS + 1)
    step = float(edges[1] - edges[0])
    shares = np.histogram(targets, edges)[0] / (len(targets) * step)
    reach = np.arange(1 - _BINS // 2, _BINS // 2) * step
    kernel = np.exp(-0.5 * (reach / max(width, step)) ** 2)
    smooth = np.convolve(shares, kernel / kernel.sum(), mode="same")
    return np.interp(targets, (edges[:-1] + edges[1:]) / 2, smooth)


def _likelihoods(distance: Array, wrong: Array, shares: Array, scale: float, freedom: float) -> Array:
    """[S] the log-likelihood of the residuals for each share of wrong labels."""
    right = student_t(distance / scale, freedom) / scale
    mixed = right[:, None] + shares[None, :] * (wrong - right)[:, None]
    return np.log(np.maximum(mixed, 1e-300)).sum(0)
