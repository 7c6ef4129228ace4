"""Drift: how the distribution of answers, confidence and lengths for new data differs from that on known data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

Array = NDArray[np.float64]

_BINS = 10
_LEAST_EXPECTED = 5.0  # samples in a bin of either side; rarer classes are pooled
_SMALL, _LARGE = 0.1, 0.25  # the usual readings of the index (Siddiqi 2006, "Credit Risk Scorecards")
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class AnswerRecord:
    """What a model answered for N samples.

    Attributes:
        answers: [N] int64 classes, or float64 values.
        confidence: [N] the probability of the answer; None for values.
        num_tokens: [N] lengths.
    """

    answers: NDArray[np.int64] | Array
    confidence: Array | None
    num_tokens: NDArray[np.int64]

    @staticmethod
    def of(answers: Array, num_tokens: NDArray[np.int64]) -> AnswerRecord:
        """From [N, K] probabilities or [N, 1] values."""
        if answers.shape[1] == 1:
            return AnswerRecord(answers[:, 0], None, num_tokens)
        return AnswerRecord(answers.argmax(1), answers.max(1), num_tokens)


@dataclass(frozen=True)
class Shift:
    """The difference of two distributions.

    Attributes:
        index: population stability index, the sum over bins of (p - q) ln(p / q); 0 for equal distributions.
        by_chance: what two samples of these sizes from one distribution stay below with 95 %.
    """

    what: str
    index: float
    by_chance: float

    @property
    def reading(self) -> str:
        """In plain words."""
        if self.by_chance > _LARGE:
            return "too few samples to tell"
        if self.index <= self.by_chance:
            return "no more than chance"
        if self.index < _SMALL:
            return "small"
        return "moderate" if self.index < _LARGE else "large"


@dataclass(frozen=True)
class ClassShift:
    """How often one class is answered: the share before and now, and whether the change is more than chance."""

    name: str
    before: float
    now: float
    is_certain: bool


@dataclass(frozen=True)
class Drift:
    """All shifts; `classes` by the size of their change."""

    shifts: tuple[Shift, ...]
    classes: tuple[ClassShift, ...]


def drift(before: AnswerRecord, now: AnswerRecord, names: Sequence[str]) -> Drift:
    """Compare the answers for new data with those for known data.

    Args:
        names: of the classes; none for a regression.
    """
    if not names:
        shifts = [_shift("answers", *_binned(before.answers, now.answers))]
        classes: tuple[ClassShift, ...] = ()
    else:
        first, second = (np.bincount(one.answers.astype(np.int64), minlength=len(names)) for one in (before, now))
        shifts = [_shift("answers", *_pooled(first, second))]
        classes = _class_shifts(first, second, names)
    if before.confidence is not None and now.confidence is not None:
        shifts.append(_shift("confidence", *_binned(before.confidence, now.confidence)))
    shifts.append(_shift("length", *_binned(before.num_tokens, now.num_tokens)))
    return Drift(tuple(shifts), classes)


def _shift(what: str, before: NDArray[np.int64], now: NDArray[np.int64]) -> Shift:
    """Compare counts [B] in the same bins.

    Without a change the index times 1 / (1/n + 1/m) is chi-squared distributed with B - 1 degrees of freedom (Yurdakul
    and Naranjo 2020, "Statistical properties of the population stability index").
    """
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (before, now))
    scale = 1.0 / before.sum() + 1.0 / now.sum()
    index = float(((p - q) * np.log(p / q)).sum())
    return Shift(what, index, float(chi2.ppf(_CONFIDENCE, max(1, len(before) - 1)) * scale))


def _binned(before: NDArray[Any], now: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of both in the tenths of the first; fewer bins where values are equal or samples few."""
    bins = int(min(_BINS, max(2, len(before) / _LEAST_EXPECTED)))
    edges = np.unique(np.quantile(before, np.arange(1, bins) / bins))
    first, second = (np.searchsorted(edges, values, side="left") for values in (before, now))
    return np.bincount(first, minlength=len(edges) + 1), np.bincount(second, minlength=len(edges) + 1)


def _pooled(before: NDArray[np.int64], now: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts by class, rare classes joined with those after them until each bin has enough on the smaller side."""
    total = before + now
    expected = total * min(before.sum(), now.sum()) / total.sum()
    bins, held = np.zeros(len(total), dtype=np.int64), 0.0
    for place in range(1, len(total)):
        held += float(expected[place - 1])
        is_full = held >= _LEAST_EXPECTED and expected[place:].sum() >= _LEAST_EXPECTED
        bins[place] = bins[place - 1] + is_full
        held = 0.0 if is_full else held
    first, second = (np.bincount(bins, weights=counts).astype(np.int64) for counts in (before, now))
    return first, second


def _class_shifts(before: NDArray[np.int64], now: NDArray[np.int64], names: Sequence[str]) -> tuple[ClassShift, ...]:
    """The two-proportion z test of each class, at 5 % over all classes together (Bonferroni)."""
    sizes = max(int(before.sum()), 1), max(int(now.sum()), 1)
    p, q = before / sizes[0], now / sizes[1]
    pooled = (before + now) / sum(sizes)
    error = np.sqrt(pooled * (1.0 - pooled) * (1.0 / sizes[0] + 1.0 / sizes[1]))
    bound = norm.ppf(1.0 - (1.0 - _CONFIDENCE) / (2 * len(names)))
    enough = np.minimum(pooled, 1.0 - pooled) * min(sizes) >= _LEAST_EXPECTED
    certain = enough & (np.abs(p - q) > bound * error)
    order = np.lexsort((-np.abs(p - q), ~certain))
    return tuple(ClassShift(names[i], float(p[i]), float(q[i]), bool(certain[i])) for i in order)
