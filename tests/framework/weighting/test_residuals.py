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
    for noise in (0.0, 0.1, 0.2, 0.3):
        answers, labels, _ = rated(noise)
        found = label_noise(answers[:, None], labels)
        assert (
            found.share == pytest.approx(noise, abs=0.04) and found.low <= noise + 0.02 and found.high >= noise - 0.02
        )


def test_of_very_many_wrong_labels_too_few_are_seen() -> None:
    answers, labels, _ = rated(0.4)
    assert 0.25 < label_noise(answers[:, None], labels).share <= 0.42


def test_right_labels_show_no_noise_however_large_the_residuals() -> None:
    for error in (0.01, 0.3, 1.0):
        answers, labels, _ = rated(0.0, error=error)
        assert label_noise(answers[:, None], labels).share <= 0.03
    random = np.random.default_rng(2)
    nothing, labels = random.normal(size=2000), random.normal(size=2000)
    assert label_noise(nothing[:, None], labels).low <= 0.03, "answers that know nothing"
    assert label_noise(np.zeros((100, 1)), np.linspace(-1.0, 1.0, 100)).low <= 0.03, "far from all alike is no noise"


def test_what_models_know_little_about_is_no_noise() -> None:
    """Two opinions, and answers between them where they are not clear: residuals as large as those of wrong labels."""
    random = np.random.default_rng(4)
    opinion = random.choice([-1.5, 1.5], 4000)
    answers = 1.5 * np.tanh(0.7 * opinion + random.normal(size=4000))
    labels = opinion + random.normal(scale=0.3, size=4000)
    assert residual_noise(answers, labels).low > 0.1, "residuals alone cannot tell"
    found = label_noise(answers[:, None], labels)
    assert found.share <= 0.03 and found.low <= 0.01


def test_the_scale_is_that_of_right_labels() -> None:
    scales = []
    for noise in (0.0, 0.3):
        answers, labels, _ = rated(noise)
        scales.append(label_noise(answers[:, None], labels).separation)
    assert scales[1] == pytest.approx(scales[0], rel=0.3) and 0.5 < scales[0] < 0.9


def test_exact_predictions_and_equal_labels_show_no_noise() -> None:
    same = np.linspace(0.0, 1.0, 50)
    assert label_noise(same[:, None], same).share == 0.0
    assert label_noise(same[:, None], np.full(50, 0.5)).low == 0.0


def test_wrong_numbers_are_trusted_less() -> None:
    answers, labels, wrong = rated(0.2)
    found = label_noise(answers[:, None], labels)
    trusted = residual_trust(answers, labels, noise=found.low, scale=found.separation, freedom=5.0)
    assert trusted[~wrong].mean() > trusted[wrong].mean() + 0.3
    assert trusted.min() >= 0.0 and trusted.max() <= 1.0
    assert (residual_trust(answers, labels, noise=0.0, scale=found.separation, freedom=5.0) == 1.0).all()


def test_a_frequent_value_is_trusted_less_than_a_rare_one() -> None:
    """A wrong label is as often a certain number as labels are."""
    labels = np.concatenate([np.zeros(900), np.full(100, 4.0)])
    trusted = residual_trust(np.full(1000, 2.0), labels, noise=0.2, scale=1.0, freedom=5.0)
    assert trusted[999] > trusted[0]


def test_the_density_of_normal_labels_at_zero() -> None:
    values = np.random.default_rng(3).normal(size=5000)
    assert density(values)[np.abs(values).argmin()] == pytest.approx(0.3989, rel=0.1)
