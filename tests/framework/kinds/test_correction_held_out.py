"""What a `correct` stage decides from answers of models that were not trained on the samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from correction_cases import (
    stage,
)

from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.tokenizer import Encoded
from espalier.kinds.correct.correction import Correction


def many(*, wrong: float, num_classes: int = 8, per_class: int = 60) -> tuple[LabelledSequences, np.ndarray]:
    """Samples with a share of wrong labels, and answers of models that know them but for the last, rare, class."""
    random = np.random.default_rng(5)
    truth = np.concatenate([np.repeat(np.arange(num_classes - 1), per_class), np.full(10, num_classes - 1)])
    logits = random.normal(size=(len(truth), num_classes)) + 3.0 * np.eye(num_classes)[truth]
    logits[:, -1] = -4.0
    flipped = random.random(len(truth)) < wrong
    labels = np.where(flipped, (truth + random.integers(1, num_classes, len(truth))) % num_classes, truth)
    names = tuple(map(str, range(len(truth))))
    examples = Examples(names, names, None, labels, np.ones(len(truth)))
    answered = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return LabelledSequences(examples, [Encoded([1, 2], None)] * len(truth), "first"), answered


def held_out(wrong: float, **settings: Any) -> tuple[Correction, np.ndarray]:
    found, answered = many(wrong=wrong)
    count = len(found)
    corrected = Correction(
        stage(signal={"min_skill": 0.3} | settings.pop("signal", {}), **settings),
        found,
        num_revisions=5,
        weights=np.ones(count),
        teacher=answered,
        is_held_out=True,
        excluded=np.zeros(count, dtype=bool),
    )
    return corrected, found.examples.targets


def test_with_clean_labels_the_loss_is_that_of_plain_fine_tuning() -> None:
    found, labels = held_out(0.0)
    assert found.decision.noise == 0.0 and found.decision.reason.startswith("nothing is corrected")
    for epoch in range(3):
        assert found.sequences.label_weights.tolist() == [2.0] * len(labels), "half of the loss, counted twice"
        assert found.sequences.signal_weights.tolist() == [0.0] * len(labels)
        random = np.random.default_rng(epoch).normal(size=(len(labels), 8))
        figures = found.revise(torch.from_numpy(random).float()).figures
        assert figures["alpha"] == figures["heard"] == figures["noise_acting"] == 0.0
        assert figures["effective_share"] == figures["trust"] == 1.0 and figures["largest_weight"] == 2.0


def test_wrong_labels_count_less_and_nothing_is_boosted_by_default() -> None:
    found, labels = held_out(0.2)
    assert 0.1 < found.decision.noise < 0.2 and found.decision.reason.startswith("labels are corrected")
    again, _ = held_out(0.2)
    before = found.sequences.label_weights.copy()
    revision = found.revise(torch.zeros(len(labels), 8))
    assert revision.figures["alpha"] == 0.0 and (revision.table.boost == 1.0).all()
    np.testing.assert_array_equal(found.sequences.label_weights, before)
    again.restore(found.tables())
    assert again.decision == found.decision
    np.testing.assert_array_equal(again.sequences.label_weights, before)


def test_a_rare_class_that_the_teacher_never_predicts_keeps_its_labels() -> None:
    found, labels = held_out(0.2)
    rare, total = labels == 7, found.sequences.label_weights + found.sequences.signal_weights
    assert (found.sequences.signal_weights[rare] == 0.0).all(), "they know nothing of it"
    assert found.sequences.signal_weights[~rare].min() > 0.5
    assert total.max() <= 2.0 + 1e-12


def test_the_least_noise_to_correct_can_be_set() -> None:
    found, labels = held_out(0.2, distrust={"min_noise": 0.3})
    assert found.sequences.label_weights.tolist() == [2.0] * len(labels)
    assert "not certainly 30.0%" in found.decision.reason


def test_the_trust_in_a_cross_fitted_regression_is_halved() -> None:
    random = np.random.default_rng(6)
    truth = random.normal(size=400)
    labels = np.where(random.random(400) < 0.3, random.permutation(truth), truth)
    names = tuple(map(str, range(400)))
    found = LabelledSequences(
        Examples(names, names, None, labels, np.ones(400)), [Encoded([1, 2], None)] * 400, "first"
    )
    corrected = Correction(
        stage(),
        found,
        num_revisions=5,
        weights=np.ones(400),
        teacher=(truth + 0.3 * random.normal(size=400))[:, None],
        is_held_out=True,
        excluded=np.zeros(400, dtype=bool),
    )
    np.testing.assert_allclose(corrected.sequences.signal_weights, 0.5)
    assert corrected.sequences.label_weights.max() <= 1.5
