"""What answers are worth beside always the same one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, r2_score

from espalier.weighting.skill import skill


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
