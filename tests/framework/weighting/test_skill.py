"""The skill of predictions beyond chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, r2_score

from espalier.weighting.noise import LabelNoise, label_noise
from espalier.weighting.skill import class_skill, skill, skill_of_right


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
def test_a_constant_prediction_has_no_skill(answers: np.ndarray, targets: np.ndarray) -> None:
    assert skill(answers, targets) == 0.0


def test_skill_is_corrected_for_wrong_labels() -> None:
    random = np.random.default_rng(4)
    for width in (2, 20):
        truth = random.integers(0, width, 4000)
        logits = random.normal(size=(4000, width)) + 3.0 * np.eye(width)[truth]
        answers = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        wrong = random.random(4000) < 0.3
        given = np.where(wrong, (truth + random.integers(1, width, 4000)) % width, truth)
        found = skill_of_right(answers, given, LabelNoise.given(0.3, width))
        allowed = (
            0.3 if width == 2 else 0.05
        )  # of two classes a wrong label is the other one, which is worse than chance
        assert found == pytest.approx(skill(answers, truth), abs=allowed) and found > skill(answers, given) + 0.1


def test_the_skill_of_values_is_corrected_for_three_in_ten_wrong_labels() -> None:
    random = np.random.default_rng(5)
    truth = random.normal(size=3000)
    answers = (truth + 0.6 * random.normal(size=3000))[:, None]
    given = np.where(random.random(3000) < 0.3, random.permutation(truth), truth)
    assert skill(answers, given) < 0.2, "the explained variance says that it knows next to nothing"
    noise = label_noise(answers, given)
    assert skill_of_right(answers, given, noise) == pytest.approx(1.0 / 1.36, abs=0.2)
    nothing = random.normal(size=(3000, 1))
    assert skill_of_right(nothing, given, label_noise(nothing, given)) < 0.1
    assert skill_of_right(np.zeros((3000, 1)), given, noise) == 0.0


def test_a_rare_class_that_was_never_learnt_has_no_skill_and_a_frequent_one_is_not_judged() -> None:
    labels = np.repeat([0, 1, 2, 3], [300, 300, 20, 20])
    said = np.where(labels == 3, 3, 0)
    found = class_skill(np.eye(4)[said], labels, LabelNoise.given(0.0, 4))
    assert found.tolist() == [1.0, 1.0, 0.0, 1.0]
    assert class_skill(np.eye(4)[said], labels, LabelNoise.given(0.5, 4)).tolist() == [1.0, 1.0, 0.0, 1.0]
