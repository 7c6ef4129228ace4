"""What answers are worth beside always the same one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, r2_score

from espalier.weighting.skill import heard, skill


def test_classes_are_cohen_s_kappa() -> None:
    random = np.random.default_rng(0)
    for width in (2, 3, 5):
        targets, answers = random.integers(0, width, 200), random.dirichlet(np.ones(width), 200)
        answers[:80] = np.eye(width)[targets[:80]]
        assert skill(answers, targets) == pytest.approx(cohen_kappa_score(targets, answers.argmax(1)))


def test_numbers_are_the_explained_variance() -> None:
    random = np.random.default_rng(0)
    targets = random.normal(size=100)
    answers = targets[:, None] + random.normal(size=(100, 1))
    assert skill(answers, targets) == pytest.approx(r2_score(targets, answers[:, 0]))


@pytest.mark.parametrize(
    ("answers", "targets"),
    [
        (np.tile([0.7, 0.3], (5, 1)), np.array([0, 1, 0, 0, 1])),
        (np.tile([0.7, 0.3], (5, 1)), np.zeros(5, dtype=np.int64)),
        (np.full((4, 1), 2.5), np.array([1.0, 2.0, 3.0, 4.0])),
        (np.full((4, 1), 2.5), np.full(4, 2.0)),
    ],
)
def test_always_the_same_answer_has_none(answers: np.ndarray, targets: np.ndarray) -> None:
    assert skill(answers, targets) == 0.0


def test_little_skill_is_not_heard_and_much_is_as_far_as_labels_are_wrong() -> None:
    random = np.random.default_rng(2)
    labels = random.integers(0, 2, 1000)
    blind, seeing = np.eye(2)[random.integers(0, 2, 1000)], np.eye(2)[labels]
    assert heard(blind, labels, noise=0.2, min_skill=0.5, full_at_noise=0.2) == 0.0
    assert heard(blind, labels, noise=0.2, min_skill=0.0, full_at_noise=0.0) == 1.0
    for noise, expected in ((0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.3, 1.0)):
        found = heard(seeing, labels, noise=noise, min_skill=0.5, full_at_noise=0.2)
        assert found == pytest.approx(expected), noise


def test_between_half_of_the_skill_and_all_of_it_as_far_as_it_goes() -> None:
    random = np.random.default_rng(3)
    targets = random.normal(size=1000)
    answers = targets[:, None] + random.normal(size=(1000, 1)) * 0.8
    known = skill(answers, targets)
    assert 0.2 < known < 0.5
    assert heard(answers, targets, noise=0.0, min_skill=0.5, full_at_noise=0.0) == pytest.approx((known - 0.25) / 0.25)
