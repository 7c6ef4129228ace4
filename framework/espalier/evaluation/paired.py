"""Compare two models over several seeds: means, standard deviations, and a paired t-test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Paired:
    """A model compared with a baseline over the same seeds.

    Attributes:
        mean: of the model; spread: its standard deviation (n - 1).
        difference: mean of model minus baseline, seed by seed.
        low, high: its 95 % interval (Student's t); both NaN with one seed.
        p: of the two-sided paired t-test; NaN with one seed, 1 where nothing differs.
    """

    mean: float
    spread: float
    difference: float
    low: float
    high: float
    p: float


def compare(model: Sequence[float], baseline: Sequence[float]) -> Paired:
    """Compare the values of two models, one for each seed, in the same order."""
    from scipy import stats

    ours, theirs = np.asarray(model, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    apart, num = ours - theirs, len(ours)
    assert len(theirs) == num > 0
    mean, difference = float(ours.mean()), float(apart.mean())
    if num == 1:
        return Paired(mean, 0.0, difference, math.nan, math.nan, math.nan)
    spread = float(ours.std(ddof=1))
    if np.ptp(apart) == 0:  # the test divides by their spread
        return Paired(mean, spread, difference, difference, difference, float(difference == 0))
    found = stats.ttest_rel(ours, theirs)
    interval = found.confidence_interval(0.95)
    return Paired(mean, spread, difference, float(interval.low), float(interval.high), float(found.pvalue))
