"""How far labels are believed, and for how long they have been contradicted."""

from __future__ import annotations

import math

import numpy as np

from espalier.config.correction import DistrustConfig
from espalier.weighting.belief import Beliefs, belief, trust

LABELS = np.array([1, 0, 2])
ANSWERS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.25, 0.35]])


def test_a_class_is_believed_as_its_probability() -> None:
    assert belief(ANSWERS, LABELS).tolist() == [0.2, 0.1, 0.35]
    assert belief(ANSWERS, LABELS.astype(np.int32)).tolist() == [0.2, 0.1, 0.35]


def test_a_number_is_believed_by_its_typical_distance() -> None:
    answers, targets = np.array([[1.0], [2.0], [3.0], [7.0]]), np.array([1.0, 4.0, 3.0, 3.0])
    spread = 1.4826 * 1.0
    expected = [math.exp(-0.5 * (distance / (2 * spread)) ** 2) for distance in (0.0, 2.0, 0.0, 4.0)]
    np.testing.assert_allclose(belief(answers, targets), expected)
    far = np.zeros((100, 1)), np.array([0.1] * 99 + [9.0])
    assert np.allclose(belief(*far)[:99], belief(*far)[0]) and belief(*far)[0] > 0.9 and belief(*far)[99] < 0.01
    mostly_exact = np.zeros((5, 1)), np.array([0.0, 0.0, 0.0, 1.0, -1.0])
    assert belief(*mostly_exact)[:3].tolist() == [1.0] * 3 and 0.0 < belief(*mostly_exact)[3] < 1.0


def test_a_perfect_regression_is_believed() -> None:
    assert belief(np.array([[1.0], [2.0]]), np.array([1.0, 2.0])).tolist() == [1.0, 1.0]


def nobody(count: int = 3) -> np.ndarray:
    return np.zeros(count, dtype=bool)


def test_belief_is_the_mean_of_the_teacher_s_and_the_student_s_over_the_epochs() -> None:
    teacher = np.array([0.9, 0.1, 0.5])
    beliefs = Beliefs.at_start(teacher, 3)
    assert beliefs.overall.tolist() == [0.9, 0.1, 0.5]
    beliefs = beliefs.after(np.array([0.5, 0.5, 0.5]), nobody()).after(np.array([0.1, 0.9, 0.5]), nobody())
    np.testing.assert_allclose(beliefs.overall, [(0.9 + 0.3) / 2, (0.1 + 0.7) / 2, 0.5])
    assert beliefs.num_epochs == 2


def test_without_a_teacher_the_student_is_all_there_is() -> None:
    beliefs = Beliefs.at_start(None, 3)
    assert beliefs.overall.tolist() == [1.0, 1.0, 1.0], "nobody has been asked yet"
    assert beliefs.after(np.array([0.2, 0.4, 1.0]), nobody()).overall.tolist() == [0.2, 0.4, 1.0]


def test_streaks_are_of_epochs_in_a_row() -> None:
    beliefs = Beliefs.at_start(None, 3)
    for contradicted in ([1, 1, 0], [1, 0, 1], [1, 1, 1]):
        beliefs = beliefs.after(np.zeros(3), np.array(contradicted, dtype=bool))
    assert beliefs.streak.tolist() == [3, 1, 2]
    assert beliefs.held(DistrustConfig(rule="persistent", epochs=2)).tolist() == [True, False, True]
    assert beliefs.held(DistrustConfig(rule="graded", epochs=3)).tolist() == [True, False, False]
    assert not beliefs.held(DistrustConfig(rule="none", epochs=1)).any()


def test_trust_is_bayes() -> None:
    believed = np.array([0.9, 0.5, 0.1, 0.0, 1.0])
    found = trust(believed, noise=0.2, num_classes=2)
    np.testing.assert_allclose(found, [0.72 / 0.74, 0.8, 0.08 / 0.26, 0.0, 1.0])
    three = trust(believed, noise=0.2, num_classes=3)
    np.testing.assert_allclose(three[:2], [0.72 / 0.73, 0.4 / 0.45])
    assert (three >= found).all(), "an error has more classes to go to, so this one is less likely one"


def test_without_noise_every_label_is_trusted() -> None:
    assert trust(np.array([0.9, 0.1, 0.0]), noise=0.0, num_classes=2).tolist() == [1.0, 1.0, 1.0]


def test_epochs_come_after_without_changing_what_was() -> None:
    first = Beliefs.at_start(None, 3)
    first.after(np.ones(3), np.ones(3, dtype=bool))
    assert first.num_epochs == 0 and not first.streak.any() and not first.student_sum.any()
