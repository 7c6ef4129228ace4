"""The noise of labels, estimated: on made data of which it is known, for 2 to 150 classes, even and uneven."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from espalier.weighting.noise import LabelNoise, label_noise, ranks_below

Array = NDArray[np.float64]
CLASSES = [2, 3, 8, 20, 77, 150]


def made(
    num_classes: int, *, noise: float = 0.0, margin: float = 3.0, uneven: bool = False, count: int = 3000, seed: int = 0
) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    """Answers that raise the true class by a margin among unit noise; labels, a share of them any other class; which.

    Uneven classes fall from the most frequent by 1 / rank, and answers expect little of rare ones.
    """
    random = np.random.default_rng(seed)
    frequency = 1.0 / np.arange(1, num_classes + 1) if uneven else np.ones(num_classes)
    frequency /= frequency.sum()
    truth = random.choice(num_classes, count, p=frequency)
    logits = random.normal(size=(count, num_classes)) + margin * np.eye(num_classes)[truth] + np.log(frequency)
    wrong = random.random(count) < noise
    labels = np.where(wrong, (truth + random.integers(1, max(2, num_classes), count)) % num_classes, truth)
    return softmax(logits), labels, wrong


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("num_classes", CLASSES)
def test_clean_labels_show_no_noise_however_little_the_models_know(num_classes: int, uneven: bool) -> None:
    for margin in (1.5, 2.0, 3.0, 5.0):
        answers, labels, _ = made(num_classes, margin=margin, uneven=uneven)
        assert label_noise(answers, labels).share <= 0.03, margin
    for margin in (0.0, 0.5, 1.0):
        answers, labels, _ = made(num_classes, margin=margin, uneven=uneven)
        assert label_noise(answers, labels).low <= 0.03, margin


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("num_classes", CLASSES)
def test_the_interval_holds_the_true_noise(num_classes: int, uneven: bool) -> None:
    clean = label_noise(*made(num_classes, uneven=uneven)[:2]).share
    for noise in (0.1, 0.2):
        found = label_noise(*made(num_classes, noise=noise, uneven=uneven)[:2])
        assert found.low <= noise + 0.03 and found.high >= noise - 0.03 and found.low >= 0.5 * noise
        least, most = {0.1: (0.05, 0.14), 0.2: (0.12, 0.24)}[noise]
        assert least <= found.share - clean <= most


@pytest.mark.parametrize("num_classes", [2, 20, 150])
def test_models_without_skill_show_no_certain_noise(num_classes: int) -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, num_classes, 2000)
    blind = np.full((2000, num_classes), 1.0 / num_classes)
    assert label_noise(blind, labels).low == 0.0
    assert label_noise(softmax(random.normal(size=(2000, num_classes))), labels).low <= 0.03


def test_the_estimate_does_not_depend_on_the_models_calibration() -> None:
    for num_classes in (2, 20):
        answers, labels, _ = made(num_classes, noise=0.2)
        timid, bold = (softmax(factor * np.log(answers)) for factor in (0.1, 2.0))
        plain = label_noise(answers, labels)
        if num_classes == 2:
            for other in (timid, bold):
                assert label_noise(other, labels).share == pytest.approx(plain.share, abs=0.01)
        assert label_noise(timid, labels).share == pytest.approx(0.2, abs=0.03)


def test_the_interval_narrows_with_the_number_of_samples() -> None:
    widths = []
    for count in (40, 400, 4000):
        found = label_noise(*made(5, noise=0.2, count=count)[:2])
        assert 0.0 <= found.low <= found.share <= found.high <= 1.0
        widths.append(found.high - found.low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]


def test_noise_is_estimated_from_saturated_predictions_with_ties() -> None:
    random = np.random.default_rng(2)
    truth = random.integers(0, 5, 3000)
    labels = np.where(random.random(3000) < 0.2, (truth + random.integers(1, 5, 3000)) % 5, truth)
    assert label_noise(np.eye(5)[truth], labels).share == pytest.approx(0.2, abs=0.04)
    assert label_noise(np.eye(5)[truth], truth).share == 0.0


def test_ranks_by_hand() -> None:
    answers = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    labels = np.array([0, 0, 1, 1, 1])
    edges = np.array([0.0, 0.5, 0.9])
    found = ranks_below(answers, labels, edges)
    assert found[0].tolist() == [0, 0, 0], "above all three with another label"
    np.testing.assert_allclose(found[1], [0, (0.5 - 1 / 3) * 3, 1])  # above one, and level with another
    np.testing.assert_allclose(found[4], [0, 0, 1])  # above one of two: a rank of 0.5, which is not below 0.5


def test_a_class_with_more_wrong_labels_has_a_larger_share() -> None:
    random = np.random.default_rng(3)
    answers, truth, _ = made(10, count=4000)
    labels = np.where((truth == 1) & (random.random(4000) < 0.4), 0, truth)
    found = label_noise(answers, labels)
    assert found.of_class[0] > 0.15 and found.of_class[2:].max() < 0.03
    share = float((labels != truth)[labels == 0].mean())
    assert found.of_class[0] <= share + 0.05


def test_small_classes_that_were_not_learnt_show_no_certain_noise() -> None:
    """Four samples each of ten classes that the models never answer, beside ten of 200."""
    random = np.random.default_rng(4)
    truth = np.concatenate([np.repeat(np.arange(10), 200), np.repeat(np.arange(10, 20), 4)])
    logits = random.normal(size=(len(truth), 20))
    logits[np.arange(2000), truth[:2000]] += 3.0
    logits[:, 10:] -= 5.0
    found = label_noise(softmax(logits), truth)
    assert found.share <= 0.03 and found.of_class[:10].max() <= 0.03
    assert found.of_class[10:].max() <= 0.5


def test_a_single_class_shows_no_certain_noise() -> None:
    found = label_noise(np.tile([0.6, 0.4], (50, 1)), np.zeros(50, dtype=np.int64))
    assert (found.share, found.low) == (0.0, 0.0) and found.of_class.tolist() == [0.0, 0.0]


def test_a_class_of_one_sample_is_accepted() -> None:
    answers, labels, _ = made(4, noise=0.2, count=1000)
    labels = np.where(labels == 3, 0, labels)
    labels[0] = 3
    found = label_noise(answers, labels)
    assert np.isfinite(found.of_class).all() and found.of_class[3] <= found.low


def test_estimates_do_not_depend_on_the_order_of_samples() -> None:
    answers, labels, _ = made(6, noise=0.2, count=900)
    order = np.random.default_rng(5).permutation(900)
    here, there = label_noise(answers, labels), label_noise(answers[order], labels[order])
    assert here.share == there.share and here.low == there.low
    np.testing.assert_allclose(here.of_class, there.of_class)


def test_a_given_noise_is_that_of_each_class() -> None:
    found = LabelNoise.given(0.2, 3)
    assert found.share == found.low == found.high == 0.2 and found.of_class.tolist() == [0.2] * 3
