"""Two models over the same seeds."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from espalier.evaluation.paired import compare


def test_the_test_is_student_s_paired_one() -> None:
    ours, theirs = [0.81, 0.84, 0.80, 0.86], [0.79, 0.83, 0.80, 0.81]
    found = compare(ours, theirs)
    expected = stats.ttest_rel(ours, theirs)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mean == pytest.approx(0.8275) and found.difference == pytest.approx(0.02)
    assert found.spread == pytest.approx(stats.tstd(ours))


def test_one_seed_has_no_interval() -> None:
    found = compare([0.8], [0.7])
    assert found.difference == pytest.approx(0.1) and found.spread == 0.0
    assert all(math.isnan(value) for value in (found.low, found.high, found.p))


def test_equal_models_differ_by_nothing() -> None:
    found = compare([0.8, 0.7], [0.8, 0.7])
    assert (found.difference, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_constant_difference_has_an_interval_of_width_zero() -> None:
    found = compare([0.75, 0.5], [0.5, 0.25])
    assert (found.difference, found.low, found.high, found.p) == (0.25, 0.25, 0.25, 0.0)


def test_the_interval_is_by_hand_what_student_s_t_says() -> None:
    found = compare([2.0, 4.0, 9.0], [1.0, 1.0, 1.0])  # apart 1, 3, 8: mean 4, standard error 2.0817, t 4.3027
    assert (found.low, found.high) == pytest.approx((4 - 8.9568, 4 + 8.9568), abs=1e-3)
