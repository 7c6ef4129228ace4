"""Disagreement of a student with a teacher and with labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.config.correction import WeightsConfig
from espalier.weighting.disagreement import agreement, as_answers, disagreement

STUDENT = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.4, 0.25, 0.35]])
TEACHER = np.array([[0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.5, 0.25, 0.25]])
LABELS = np.array([1, 1, 2])
VALUES, THEIRS, NUMBERS = np.array([[1.0], [4.0], [2.5]]), np.array([[1.5], [2.0], [2.5]]), np.array([1.0, 8.0, 2.0])


def apart(student: Any = STUDENT, teacher: Any = TEACHER, targets: Any = LABELS, **config: Any) -> list[float]:
    return disagreement(student, teacher, targets, WeightsConfig(**config)).tolist()


def test_classes_by_hand() -> None:
    assert apart() == [0.0, 1.0, 0.0]
    assert apart(disagreement="label") == [1.0, 0.0, 1.0]
    assert apart(disagreement="either") == [1.0, 1.0, 1.0]


def test_probabilities_by_hand() -> None:
    """Half of the absolute differences: of the first, (0.2 + 0.2) / 2."""
    np.testing.assert_allclose(apart(measure="probability"), [0.2, 0.3, 0.1])
    np.testing.assert_allclose(apart(measure="probability", disagreement="label"), [0.8, 0.4, 0.65])
    np.testing.assert_allclose(apart(measure="probability", disagreement="either"), [0.8, 0.4, 0.65])


def test_a_regression_counts_distances_as_a_share_of_the_largest() -> None:
    settings = {"student": VALUES, "teacher": THEIRS, "targets": NUMBERS}
    assert apart(**settings) == [0.25, 1.0, 0.0]
    assert apart(**settings, disagreement="label") == [0.0, 1.0, 0.125]
    assert apart(**settings, disagreement="either") == [0.25, 1.0, 0.125]


def test_a_regression_counts_what_is_beyond_a_tolerance() -> None:
    settings = {"student": VALUES, "teacher": THEIRS, "targets": NUMBERS, "tolerance": 0.5}
    assert apart(**settings) == [0.0, 1.0, 0.0], "a distance of the tolerance itself is agreement"
    assert apart(**settings, disagreement="label") == [0.0, 1.0, 0.0]
    assert apart(**settings | {"tolerance": 0.4}, disagreement="either") == [1.0, 1.0, 1.0]


def test_equal_values_do_not_disagree() -> None:
    assert apart(VALUES, VALUES, NUMBERS) == [0.0, 0.0, 0.0]


def test_the_label_needs_no_teacher_and_the_teacher_does() -> None:
    assert apart(teacher=None, disagreement="label") == [1.0, 0.0, 1.0]
    for against in ("teacher", "either"):
        with pytest.raises(AssertionError, match="with a teacher needs one"):
            apart(teacher=None, disagreement=against)


def test_labels_as_answers() -> None:
    assert as_answers(LABELS, 3).tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert as_answers(NUMBERS.astype(np.float32), 1).tolist() == [[1.0], [8.0], [2.0]]
    assert as_answers(NUMBERS.astype(np.float32), 1).dtype == np.float64


def test_agreement_of_classes_and_values() -> None:
    assert agreement(STUDENT, TEACHER, tolerance=None).tolist() == [True, False, True]
    assert agreement(VALUES, THEIRS, tolerance=0.5).tolist() == [True, False, True]


def test_without_a_tolerance_only_values_that_are_unusually_far_apart_disagree() -> None:
    """Else a regression would contradict every label, and no sample could ever be raised again."""
    student = np.zeros((10, 1))
    other = np.array([[0.1]] * 5 + [[-0.2]] * 4 + [[3.0]])  # root mean square 0.96
    assert agreement(student, other, tolerance=None).tolist() == [True] * 9 + [False]
    assert agreement(student, student, tolerance=None).all()


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 20), st.integers(0, 99), st.sampled_from(["class", "probability"]))
def test_disagreement_is_a_share_and_symmetric(width: int, count: int, seed: int, measure: Any) -> None:
    draw = np.random.default_rng(seed)
    student, teacher = (
        (draw.dirichlet(np.ones(width), count) for _ in range(2)) if width > 1 else draw.normal(size=(2, count, 1))
    )
    found = disagreement(student, teacher, np.zeros(count, dtype=np.int64), WeightsConfig(measure=measure))
    back = disagreement(teacher, student, np.zeros(count, dtype=np.int64), WeightsConfig(measure=measure))
    assert found.shape == (count,) and found.dtype == np.float64
    assert found.min() >= 0.0 and found.max() <= 1.0 + 1e-12
    np.testing.assert_array_equal(found, back)
