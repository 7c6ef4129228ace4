"""Whether one model is better than another over several seeds: means, spreads, and a paired test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Paired:
    """A model beside a baseline, over the same seeds.

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
    """The values of each seed, in the same order."""
    from scipy import stats

    ours, theirs = np.asarray(model, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    apart, num = ours - theirs, len(ours)
    assert len(theirs) == num > 0
    mean, difference = float(ours.mean()), float(apart.mean())
    if num == 1:
        return Paired(mean, 0.0, difference, float("nan"), float("nan"), float("nan"))
    spread, error = float(ours.std(ddof=1)), float(apart.std(ddof=1)) / num**0.5
    reach = float(stats.t.ppf(0.975, num - 1)) * error
    p = float(2 * stats.t.sf(abs(difference) / error, num - 1)) if error > 0 else (1.0 if difference == 0 else 0.0)
    return Paired(mean, spread, difference, difference - reach, difference + reach, p)
