"""Which labels predictions speak against, and the sentence of why."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.weighting.suspicion import Suspicion


def made(num_classes: int, *, wrong: float, skill: float, seed: int = 0) -> tuple[Suspicion, np.ndarray]:
    """Noisy labels and answers that are a softmax of noise and, by `skill`, the truth; also which labels are wrong."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, num_classes, 4000)
    flipped = draw.random(4000) < wrong
    targets = np.where(flipped, (truth + draw.integers(1, num_classes, 4000)) % num_classes, truth)
    logits = draw.normal(size=(4000, num_classes)) + skill * np.eye(num_classes)[truth]
    answers = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return Suspicion(answers, targets, [f"c{number}" for number in range(num_classes)], "fold models"), flipped


@pytest.mark.parametrize("num_classes", [2, 20, 150])
def test_wrong_labels_are_doubted_and_right_ones_seldom(num_classes: int) -> None:
    found, flipped = made(num_classes, wrong=0.2, skill=7.0)
    assert found.doubted[flipped].mean() > 0.85
    assert found.doubted[~flipped].mean() < 0.05


def test_overconfident_models_doubt_the_same_labels() -> None:
    found, _ = made(2, wrong=0.2, skill=3.0)
    sharper = found.answers**3 / (found.answers**3).sum(1, keepdims=True)
    other = Suspicion(sharper, found.targets, found.names, "fold models")
    assert (other.doubted == found.doubted).mean() > 0.97


def test_values_far_from_most_are_doubted() -> None:
    draw = np.random.default_rng(1)
    answers, targets = draw.normal(size=(500, 1)), np.zeros(500)
    targets[:] = answers[:, 0] + 0.1 * draw.normal(size=500)
    targets[:50] += 3.0
    found = Suspicion(answers, targets, (), "teacher")
    assert found.doubted[:50].all() and found.doubted[50:].mean() < 0.02
    assert found.why(0).startswith("the teacher answers ") and "from the label; residuals have a standard" in found.why(
        0
    )
    same = Suspicion(np.zeros((3, 1)), np.zeros(3), (), "teacher")
    assert not same.doubted.any()


def test_the_sentence_says_who_answers_what_how_surely_and_how_common_that_is() -> None:
    answers = np.array([[0.97, 0.03], [0.2, 0.8], [0.1, 0.9], [0.9, 0.1]])
    found = Suspicion(answers, np.array([1, 1, 1, 0]), ("x", "y"), "fold models")
    assert found.why(0) == (
        "fold models that never saw this label answer `x` with 0.97; 33% of the samples labelled `y` are doubted"
    )
    assert found.suggested(0) == "x" and found.suggested(1) == ""
    assert found.why(1).startswith(
        "fold models that never saw this label answer the label itself, with no more than 0.8"
    )


def test_confused_classes_are_counted_by_pair() -> None:
    answers = np.array([[0.9, 0.1, 0.0], [0.7, 0.3, 0.0], [0.1, 0.2, 0.7], [0.0, 0.0, 1.0], [0.6, 0.2, 0.2]])
    found = Suspicion(answers, np.array([1, 1, 0, 2, 2]), ("x", "y", "z"), "teacher")
    pairs = [(one.given, one.answered, one.num_samples, round(one.probability, 6)) for one in found.confused(2)]
    assert pairs == [(1, 0, 2, 0.8), (0, 2, 1, 0.7)]


def test_not_knowing_is_no_doubt() -> None:
    """Fold models of many classes contradict a third of right labels, without being sure of anything else."""
    found, _ = made(150, wrong=0.0, skill=3.0)
    assert (found.answers.argmax(1) != found.targets).mean() > 0.3
    assert found.doubted.mean() < 0.06
