"""Trust in labels, from held-out answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from test_noise import made

from espalier.weighting.label_trust import calibrated, label_trust, temperature, trust_of_confidence
from espalier.weighting.noise import LabelNoise, label_noise


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("num_classes", [2, 8, 77])
def test_wrong_labels_are_trusted_less_than_right_ones(num_classes: int, uneven: bool) -> None:
    answers, labels, wrong = made(num_classes, noise=0.2, uneven=uneven)
    trusted = label_trust(answers, labels, label_noise(answers, labels))
    assert trusted.min() >= 0.0 and trusted.max() <= 1.0
    assert trusted[~wrong].mean() > 0.8 > trusted[wrong].mean() + 0.2
    assert roc_auc_score(wrong, -trusted) > 0.9


def test_without_certain_noise_every_label_is_trusted_bit_for_bit() -> None:
    answers, labels, _ = made(5)
    noise = label_noise(answers, labels)
    assert (label_trust(answers, labels, LabelNoise(0.1, 0.0, 0.3, noise.of_class, 1.0)) == 1.0).all()


def test_label_trust_by_hand() -> None:
    labels = np.array([0, 0, 0, 1])
    answers = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
    scale = temperature(answers, labels, 0.2)
    raised = answers ** (1.0 / scale)
    given = (raised / raised.sum(1, keepdims=True))[np.arange(4), labels]
    np.testing.assert_allclose(calibrated(answers, labels, 0.2), given)
    right = 0.8 * given / np.array([0.75, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(label_trust(answers, labels, LabelNoise.given(0.2, 2)), right / (right + 0.2))


def test_models_that_are_not_sure_enough_have_a_temperature_below_one() -> None:
    for factor, expected in ((0.25, 0.25), (1.0, 1.0), (2.0, 2.0)):
        random = np.random.default_rng(0)
        logits = 2.0 * random.normal(size=(4000, 6))
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        labels = (probabilities.cumsum(1) > random.random((4000, 1))).argmax(1)
        timid = probabilities**factor / (probabilities**factor).sum(1, keepdims=True)
        assert temperature(timid, labels, 0.0) == pytest.approx(expected, rel=0.15)


def test_a_rare_class_is_not_distrusted_for_being_rare() -> None:
    """Models expect little of a class with 20 of 2020 samples, and raise it where it is true all the same."""
    random = np.random.default_rng(6)
    labels = np.concatenate([np.repeat(np.arange(10), 200), np.full(20, 10)])
    logits = random.normal(size=(2020, 11)) + 3.0 * np.eye(11)[labels]
    logits[:, 10] -= 3.0
    answers = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    trusted = label_trust(answers, labels, LabelNoise.given(0.1, 11))[labels == 10]
    alike = trust_of_confidence(calibrated(answers, labels, 0.1), noise=0.1, num_classes=11)[labels == 10]
    assert trusted.mean() > alike.mean() + 0.1, "as if wrong labels fell on rare classes as often as on others"


def test_trust_of_confidence_by_hand() -> None:
    confidence = np.array([0.9, 0.5, 0.1, 0.0, 1.0])
    found = trust_of_confidence(confidence, noise=0.2, num_classes=2)
    np.testing.assert_allclose(found, [0.72 / 0.74, 0.8, 0.08 / 0.26, 0.0, 1.0])
    three = trust_of_confidence(confidence, noise=0.2, num_classes=3)
    np.testing.assert_allclose(three[:2], [0.72 / 0.73, 0.4 / 0.45])
    assert (three >= found).all(), "an error has more classes to go to, so this one is less likely one"


def test_without_noise_every_label_is_trusted_whatever_the_confidence() -> None:
    assert trust_of_confidence(np.array([0.9, 0.1, 0.0]), noise=0.0, num_classes=2).tolist() == [1.0, 1.0, 1.0]
