"""Answers made as sure as they are right."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.weighting.calibration import calibrated
from espalier.weighting.skill import skill


def drawn(width: int, num_samples: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels that are drawn by them."""
    random = np.random.default_rng(width)
    answers = random.dirichlet(np.full(width, 0.7), num_samples)
    return answers, np.array([random.choice(width, p=row) for row in answers])


@pytest.mark.parametrize("width", [2, 3, 6])
@pytest.mark.parametrize(("sureness", "lean"), [(1.0, 0.0), (0.1, 1.5), (4.0, -2.0)])
def test_whatever_was_done_to_right_probabilities_is_undone(width: int, sureness: float, lean: float) -> None:
    right, labels = drawn(width)
    spoilt = np.clip(right, 1e-9, 1.0) ** sureness * np.exp(lean * np.arange(width))
    found = calibrated(spoilt / spoilt.sum(1, keepdims=True), labels)
    np.testing.assert_allclose(found.sum(1), 1.0)
    assert np.abs(found - right).mean() < 0.02


def test_a_lean_hides_skill_until_it_is_taken_away() -> None:
    right, labels = drawn(2)
    weak = right**0.05 * np.array([1.0, 2.0])
    weak /= weak.sum(1, keepdims=True)
    assert skill(weak, labels) < 0.05
    assert skill(calibrated(weak, labels), labels) == pytest.approx(skill(right, labels), abs=0.03)


def test_who_knows_nothing_or_the_contrary_answers_with_shares() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    wrong = np.eye(3)[(labels + 1) % 3] * 0.7 + 0.1
    for answers in (np.tile([0.2, 0.5, 0.3], (100, 1)), wrong):
        found = calibrated(answers, labels)
        np.testing.assert_allclose(found, np.tile([0.6, 0.3, 0.1], (100, 1)), atol=0.02)


def test_sure_answers_stay_finite() -> None:
    labels = np.array([0, 1] * 20)
    found = calibrated(np.eye(2)[labels], labels)
    assert np.isfinite(found).all() and (found.argmax(1) == labels).all()
