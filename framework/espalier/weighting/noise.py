"""Label noise: the share of wrong labels, estimated from held-out predictions, with an interval, overall and by class.

Rank each label's predicted probability among those that samples of other classes get for the same label. A sample with
a wrong label belongs to one of these other classes, so its rank is uniform. The ranks of right labels are high, and the
higher the more the models know; so the density of low ranks is the share of wrong labels. Ranks depend neither on the
models' calibration nor on class frequencies. Models with little skill, or rare classes, widen the interval and bring
its lower end, which is what the correction uses, close to 0. Numbers are cut in two at their median for this, as their
residuals alone do not tell wrong labels from samples of which models know little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from espalier.weighting.residuals import residual_noise

Array = NDArray[np.float64]

_EDGES = np.array([0.0, 0.02, 0.05, 0.1, 0.18, 0.3, 0.45])  # bins of ranks; higher ranks do not enter the fit
_TAIL = 0.3  # for a class the ranks below it are counted
_SEPARATIONS = np.linspace(0.0, 4.0, 41)
_SHARES = np.concatenate([[0.0], np.geomspace(0.003, 0.9, 100)])
_MOST = 0.5
_BLIND, _CLEAR = 0.7, 1.0  # separations: up to the first the lower end is 0, from the second it is that of the fit
_DROP = 1.353  # of the log-likelihood: half the chi-squared quantile of a one-sided 95 % bound
_DEVIATIONS = 1.645  # the same bound of a normal distribution
_MOST_COMPARED = 20_000  # samples that ranks are taken among

_NORMAL = NormalDist()


@dataclass(frozen=True)
class LabelNoise:
    """The share of wrong labels.

    Attributes:
        share: the maximum-likelihood estimate.
        low: the lower end of the interval (each end holds with 95 %), which the correction uses. 0 where more than half
            of the labels look wrong or the separation is small, as with models that know nothing.
        high: its upper end.
        of_class: [K] the share to assume among the labels of each class: `low`, moved into the class's own interval;
            [1] for a regression.
        separation: how far the ranks of right labels are from uniform, in standard deviations: the skill of the models,
            independent of the noise. For a regression the scale of the residuals of right labels.
        freedom: for a regression, the degrees of freedom of the t distribution of these residuals.
    """

    share: float
    low: float
    high: float
    of_class: Array
    separation: float
    freedom: float = 0.0

    @staticmethod
    def given(share: float, num_classes: int) -> LabelNoise:
        """A known share, the same in every class."""
        return LabelNoise(share, share, share, np.full(num_classes, share), 0.0)


def label_noise(answers: Array, targets: NDArray[np.generic]) -> LabelNoise:
    """Estimate the share of wrong labels from the predictions of models that were not trained on them.

    Args:
        answers: [N, K] probabilities, or [N, 1] values.
        targets: [N] int64 classes, or float64 values.
    """
    if answers.shape[1] == 1:
        return _of_numbers(answers[:, 0], targets.astype(np.float64))
    num_classes = answers.shape[1]
    if len(np.unique(targets)) < 2:  # nothing to compare with
        return LabelNoise(0.0, 0.0, 1.0, np.zeros(num_classes), 0.0)
    below = ranks_below(answers, targets, _EDGES)
    floor, low, high, separation = _floor(np.diff(below, axis=1).sum(0), len(targets))
    frequency = np.bincount(targets, minlength=num_classes) / len(targets)
    clear = min(1.0, max(0.0, (separation - _BLIND) / (_CLEAR - _BLIND))) if floor <= _MOST else 0.0
    share, low, high = (_of_all(value, frequency) for value in (floor, clear * low, high))
    lowest, highest = _class_interval(below[:, list(_EDGES).index(_TAIL)], targets, separation, frequency)
    return LabelNoise(share, low, high, np.clip(low, lowest, highest), separation)


def _of_numbers(answers: Array, targets: Array) -> LabelNoise:
    """The noise of numbers: what their residuals show, unless the ranks of their halves contradict; then that of these.

    A number that is drawn anew leaves its half about every second time.
    """
    values, count = np.unique(targets, return_counts=True)
    cut = values[np.abs(np.cumsum(count) / len(targets) - 0.5).argmin()]
    upper = (targets > cut).astype(np.int64)
    halves = label_noise(np.stack([-answers, answers], axis=1), upper)
    leaving = max(2.0 * upper.mean() * (1.0 - upper.mean()), 1e-9)
    share, low, high = (min(1.0, float(value / leaving)) for value in (halves.share, halves.low, halves.high))
    found = residual_noise(answers, targets)
    if found.share > high:
        found = residual_noise(answers, targets, most=share)
    else:
        low = found.low
    low = low if found.share <= _MOST else 0.0
    return LabelNoise(found.share, low, high, np.array([low]), found.scale, found.freedom)


def ranks_below(answers: Array, targets: NDArray[np.generic], edges: Array) -> Array:
    """[N, E] whether each label's rank is below each edge: 0 or 1, or a fraction where ties make the rank an interval.

    The rank, 0 to 1, is the share of the samples with other labels that get a lower probability for this label.
    """
    compared = np.linspace(0, len(targets) - 1, min(len(targets), _MOST_COMPARED)).astype(np.int64)
    low, high = np.ones(len(targets)), np.ones(len(targets))
    for label in np.unique(targets):
        own = np.flatnonzero(targets == label)
        others = np.sort(answers[compared[targets[compared] != label], label])
        if len(others):
            low[own] = np.searchsorted(others, answers[own, label], "left") / len(others)
            high[own] = np.searchsorted(others, answers[own, label], "right") / len(others)
    width, reached = (high - low)[:, None], edges[None, :] - low[:, None]
    tied = np.clip(np.divide(reached, width, out=np.zeros_like(reached), where=width > 0), 0.0, 1.0)
    return np.where(width > 0, tied, reached > 0)


def _floor(counts: Array, total: int) -> tuple[float, float, float, float]:
    """Fit the uniform part of the ranks: its estimate, both ends of its interval, and the separation.

    Ranks of right labels are modelled as Phi(separation + a standard normal), the binormal model of a ROC curve. The
    likelihood is profiled over the separation, so the lower end is 0 where right labels alone explain the counts.

    Args:
        counts: [E - 1] ranks between the `_EDGES`.
        total: N.
    """
    base = np.diff(_lower_tail(_EDGES[:, None], _SEPARATIONS[None, :]), axis=0).T  # [separations, bins]
    chance = (1.0 - _SHARES)[:, None, None] * base + _SHARES[:, None, None] * np.diff(_EDGES)
    rest = np.maximum(1.0 - chance.sum(-1), 1e-12)
    fit = (np.log(np.maximum(chance, 1e-12)) * counts).sum(-1) + (total - counts.sum()) * np.log(rest)
    profile, best = fit.max(1), int(fit.max(1).argmax())
    within = _SHARES[profile >= profile[best] - _DROP]
    return _SHARES[best], within.min(), within.max(), float(_SEPARATIONS[fit[best].argmax()])


def _lower_tail(rank: Array, separation: Array) -> Array:
    """The share of right labels whose rank is below `rank`."""
    quantile = np.vectorize(lambda value: _NORMAL.inv_cdf(value) if value > 0 else -math.inf)(rank)
    return np.vectorize(_NORMAL.cdf)(np.maximum(quantile - separation, -40.0))


def _of_all(floor: float, frequency: Array) -> float:
    """The share of wrong labels that belongs to a uniform part `floor` of the ranks.

    Some samples with other labels belong to the label's own class, because their labels are wrong, and more of them the
    more frequent the class is. They raise the uniform part; this takes it back.
    """
    hidden = float(frequency @ np.minimum(1.0, frequency / np.maximum(1.0 - frequency, 1e-9)))
    return float(floor / (1.0 + floor * hidden))


def _class_interval(
    in_tail: Array, targets: NDArray[np.generic], separation: float, frequency: Array
) -> tuple[Array, Array]:
    """[K] and [K]: the ends of each class's share of wrong labels, by Wilson's interval of its ranks below `_TAIL`."""
    count = np.bincount(targets, minlength=len(frequency)).astype(np.float64)
    low_ranks = np.bincount(targets, weights=in_tail, minlength=len(frequency))
    size, square = np.maximum(count, 1.0), _DEVIATIONS**2
    centre = (low_ranks + square / 2) / (size + square)
    spread = _DEVIATIONS / (size + square) * np.sqrt(low_ranks * (1.0 - low_ranks / size) + square / 4)
    right = float(_lower_tail(np.array(_TAIL), np.array(separation)))
    room = max(_TAIL - right, 1e-9)
    ends = [np.clip((end - right) / room, 0.0, 1.0) for end in (centre - spread, centre + spread)]
    hidden = np.minimum(1.0, frequency / np.maximum(1.0 - frequency, 1e-9))
    lowest, highest = (end / (1.0 + end * hidden) for end in ends)
    # Where more than half of a class looks wrong, the models may not have learnt the class.
    known = (count > 0) & (right < _TAIL / 2) & (lowest <= _MOST)
    return np.where(known, lowest, 0.0), np.where(known, highest, 1.0)
