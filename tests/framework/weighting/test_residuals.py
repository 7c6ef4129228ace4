"""Wrong labels among numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from espalier.weighting.noise import label_noise
from espalier.weighting.residuals import density, residual_noise, residual_trust

Array = NDArray[np.float64]


def rated(noise: float, *, error: float = 0.7, count: int = 4000) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Answers, labels from 0 to 5 of which a share was drawn anew, and which those are."""
    random = np.random.default_rng(1)
    truth, drawn = random.uniform(0, 5, (2, count))
    wrong = random.random(count) < noise
    return truth + random.normal(scale=error, size=count), np.where(wrong, drawn, truth), wrong


def test_noise_rises_with_the_share_of_wrong_labels() -> None:
    for noise in (0.0, 0.1, 0.2, 0.3, 0.4):
        answers, labels, _ = rated(noise)
        found = residual_noise(answers, labels)
        assert (
            found.share == pytest.approx(noise, abs=0.04) and found.low <= noise + 0.02 and found.high >= noise - 0.02
        )


def test_right_labels_show_no_noise_however_large_the_residuals() -> None:
    for error in (0.01, 0.3, 1.0):
        answers, labels, _ = rated(0.0, error=error)
        assert residual_noise(answers, labels).share <= 0.03
    random = np.random.default_rng(2)
    nothing, labels = random.normal(size=2000), random.normal(size=2000)
    assert label_noise(nothing[:, None], labels).low <= 0.03, "answers that know nothing"
    assert label_noise(np.zeros((100, 1)), np.linspace(-1.0, 1.0, 100)).low <= 0.03, "far from all alike is no noise"


def test_the_scale_is_that_of_right_labels() -> None:
    scales = [residual_noise(*rated(noise)[:2]).scale for noise in (0.0, 0.3)]
    assert scales[1] == pytest.approx(scales[0], rel=0.3) and 0.5 < scales[0] < 0.9


def test_exact_predictions_and_equal_labels_show_no_noise() -> None:
    same = np.linspace(0.0, 1.0, 50)
    assert residual_noise(same, same).share == 0.0
    assert residual_noise(same, np.full(50, 0.5)).low == 0.0


def test_wrong_numbers_are_trusted_less() -> None:
    answers, labels, wrong = rated(0.2)
    found = residual_noise(answers, labels)
    trusted = residual_trust(answers, labels, noise=found.low, scale=found.scale, freedom=5.0)
    assert trusted[~wrong].mean() > trusted[wrong].mean() + 0.3
    assert trusted.min() >= 0.0 and trusted.max() <= 1.0
    assert (residual_trust(answers, labels, noise=0.0, scale=found.scale, freedom=5.0) == 1.0).all()


def test_a_frequent_value_is_trusted_less_than_a_rare_one() -> None:
    """A wrong label is as often a certain number as labels are."""
    labels = np.concatenate([np.zeros(900), np.full(100, 4.0)])
    trusted = residual_trust(np.full(1000, 2.0), labels, noise=0.2, scale=1.0, freedom=5.0)
    assert trusted[999] > trusted[0]


def test_the_density_of_normal_labels_at_zero() -> None:
    values = np.random.default_rng(3).normal(size=5000)
    assert density(values)[np.abs(values).argmin()] == pytest.approx(0.3989, rel=0.1)
