"""Label confidence and its history, and for how many epochs labels have been contradicted."""

from __future__ import annotations

import math

import numpy as np

from espalier.config.correction import DistrustConfig
from espalier.weighting.label_confidence import ConfidenceHistory, label_confidence

LABELS = np.array([1, 0, 2])
ANSWERS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.25, 0.35]])


def test_the_confidence_in_a_class_is_its_probability() -> None:
    assert label_confidence(ANSWERS, LABELS).tolist() == [0.2, 0.1, 0.35]
    assert label_confidence(ANSWERS, LABELS.astype(np.int32)).tolist() == [0.2, 0.1, 0.35]


def test_the_confidence_in_a_number_depends_on_the_typical_distance() -> None:
    answers, targets = np.array([[1.0], [2.0], [3.0], [7.0]]), np.array([1.0, 4.0, 3.0, 3.0])
    spread = 1.4826 * 1.0
    expected = [math.exp(-0.5 * (distance / (2 * spread)) ** 2) for distance in (0.0, 2.0, 0.0, 4.0)]
    np.testing.assert_allclose(label_confidence(answers, targets), expected)
    far = np.zeros((100, 1)), np.array([0.1] * 99 + [9.0])
    assert (
        np.allclose(label_confidence(*far)[:99], label_confidence(*far)[0])
        and label_confidence(*far)[0] > 0.9
        and label_confidence(*far)[99] < 0.01
    )
    mostly_exact = np.zeros((5, 1)), np.array([0.0, 0.0, 0.0, 1.0, -1.0])
    assert label_confidence(*mostly_exact)[:3].tolist() == [1.0] * 3 and 0.0 < label_confidence(*mostly_exact)[3] < 1.0


def test_the_confidence_in_exact_predictions_is_one() -> None:
    assert label_confidence(np.array([[1.0], [2.0]]), np.array([1.0, 2.0])).tolist() == [1.0, 1.0]


def none(count: int = 3) -> np.ndarray:
    return np.zeros(count, dtype=bool)


def test_the_mean_confidence_is_of_the_teacher_s_and_of_the_student_s_epoch_mean() -> None:
    teacher = np.array([0.9, 0.1, 0.5])
    history = ConfidenceHistory.at_start(teacher, 3)
    assert history.mean.tolist() == [0.9, 0.1, 0.5]
    history = history.after(np.array([0.5, 0.5, 0.5]), none()).after(np.array([0.1, 0.9, 0.5]), none())
    np.testing.assert_allclose(history.mean, [(0.9 + 0.3) / 2, (0.1 + 0.7) / 2, 0.5])
    assert history.num_epochs == 2


def test_without_a_teacher_the_mean_confidence_is_the_student_s() -> None:
    history = ConfidenceHistory.at_start(None, 3)
    assert history.mean.tolist() == [1.0, 1.0, 1.0], "nobody has been asked yet"
    assert history.after(np.array([0.2, 0.4, 1.0]), none()).mean.tolist() == [0.2, 0.4, 1.0]


def test_streaks_count_consecutive_epochs() -> None:
    history = ConfidenceHistory.at_start(None, 3)
    for contradicted in ([1, 1, 0], [1, 0, 1], [1, 1, 1]):
        history = history.after(np.zeros(3), np.array(contradicted, dtype=bool))
    assert history.streak.tolist() == [3, 1, 2]
    assert history.long_contradicted(DistrustConfig(rule="persistent", epochs=2)).tolist() == [True, False, True]
    assert history.long_contradicted(DistrustConfig(rule="graded", epochs=3)).tolist() == [True, False, False]
    assert not history.long_contradicted(DistrustConfig(rule="none", epochs=1)).any()


def test_a_later_history_leaves_the_earlier_one_unchanged() -> None:
    first = ConfidenceHistory.at_start(None, 3)
    first.after(np.ones(3), np.ones(3, dtype=bool))
    assert first.num_epochs == 0 and not first.streak.any() and not first.student_sum.any()
