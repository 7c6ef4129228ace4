"""Which weights losses get in a `correct` stage: boosting, trust in labels, labels that are left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from correction_cases import (
    CLASSES,
    COUNT,
    NUMBERS,
    TARGETS,
    answers,
    correction,
    revise,
    samples,
    stage,
)

from espalier.data.batches import make_batch
from espalier.evaluation.answers import as_logits, probabilities
from espalier.kinds.correct.correction import Correction
from espalier.weighting.boosting import effective_share
from espalier.weighting.label_trust import trust_of_confidence
from espalier.weighting.noise import label_noise


def test_disagreement_with_labels_needs_no_teacher() -> None:
    found = correction(stage(teacher=None, signal={"weight": 0.0}, weights={"disagreement": "label"}))
    wrong = answers(1).argmax(1) != TARGETS
    revision = revise(found, 1)
    assert revision.figures["error"] == pytest.approx(wrong.mean()) and 0 < wrong.sum() < COUNT
    assert found.sequences.signal_weights.tolist() == [0.0] * COUNT


@pytest.mark.parametrize("counts_in", ["label", "signal", "both"])
def test_boosting_weights_multiply_the_losses_that_counts_in_names(counts_in: str) -> None:
    found = correction(stage(weights={"counts_in": counts_in}, distrust={"rule": "none"}), teacher=answers(99))
    revise(found, 1)
    weights = found.tables()["weights"].numpy()
    assert weights.std() > 0.01
    label, signal = found.sequences.label_weights, found.sequences.signal_weights
    assert label.tolist() == (np.ones(COUNT) if counts_in == "signal" else weights).tolist()
    assert signal.tolist() == (np.ones(COUNT) if counts_in == "label" else weights).tolist()


@pytest.mark.parametrize("counts_in", ["signal", "both"])
def test_label_trust_multiplies_label_losses_and_excluded_labels_do_not_count(counts_in: str) -> None:
    found = correction(
        stage(weights={"counts_in": counts_in}, distrust={"noise": 0.3}), teacher=answers(99), excluded=[2, 5]
    )
    revision = revise(found, 1)
    weights = found.tables()["weights"].numpy()
    ours, theirs = answers(1), answers(99)
    confidence = 0.5 * (ours + theirs)[np.arange(COUNT), TARGETS]
    trusted = trust_of_confidence(confidence, noise=0.3, num_classes=int(TARGETS.max()) + 1)
    kept = trusted * ~np.isin(np.arange(COUNT), [2, 5])
    counted = np.ones(COUNT) if counts_in == "signal" else weights
    np.testing.assert_allclose(found.sequences.label_weights, kept * counted, rtol=1e-5)
    assert found.sequences.signal_weights.tolist() == weights.tolist(), "the teacher is heard on them all the same"
    np.testing.assert_allclose(found.doubt, 1 - confidence, rtol=1e-4)
    np.testing.assert_allclose(revision.table.belief, confidence, rtol=1e-4)
    assert revision.figures["trust"] == pytest.approx(trusted[kept > 0].mean(), rel=1e-4)
    assert revision.figures["noise"] == 0.3
    learnt = weights if counts_in == "signal" else kept * counted
    assert revision.figures["effective_share"] == pytest.approx(effective_share(learnt), rel=1e-4)


def test_noise_is_estimated_from_the_teacher_or_else_from_the_student() -> None:
    found = correction(stage(), teacher=answers(99))
    assert revise(found, 1).figures["noise"] == label_noise(answers(99), TARGETS).share
    alone = correction(stage(teacher=None, signal={"weight": 0.0}, weights={"disagreement": "label"}), teacher=None)
    assert alone.sequences.label_weights.tolist() == [1.0] * COUNT, "nobody has been asked yet"
    revision = revise(alone, 1)
    assert revision.figures["noise"] == pytest.approx(label_noise(answers(1), TARGETS).share)
    again = correction(stage(teacher=None, signal={"weight": 0.0}, weights={"disagreement": "label"}), teacher=None)
    again.restore(alone.tables())
    assert again.sequences.label_weights.tolist() == alone.sequences.label_weights.tolist()


def test_figures_are_finite_when_all_labels_are_excluded() -> None:
    found = correction(stage(), teacher=answers(99), excluded=list(range(COUNT)))
    assert revise(found, 1).figures["effective_share"] == 0.0


@pytest.mark.parametrize("against", ["teacher", "label", "either"])
def test_excluded_labels_change_nothing(against: str) -> None:
    out, other = [1, 4, 7], TARGETS.copy()
    other[out] = (other[out] + 1) % CLASSES
    weights = {"disagreement": against, "min_effective_share": 0.95}
    config = stage(weights=weights, signal={"min_skill": 0.9, "full_at_noise": 0.9}, distrust={"noise": 0.05})
    mostly = 0.6 * np.eye(CLASSES)[np.where(np.arange(COUNT) < 9, TARGETS, 0)] + 0.4 * answers(99)
    mostly[[4, 10]] = [[0.01, 0.98, 0.01], [0.98, 0.01, 0.01]]  # the surest; the second contradicts its label
    ours, theirs = (correction(config, targets=targets, teacher=mostly, excluded=out) for targets in (TARGETS, other))
    boosts = [np.ones(COUNT)]
    for epoch in range(3):
        mine, yours = revise(ours, epoch), revise(theirs, epoch)
        assert mine.figures == yours.figures
        np.testing.assert_array_equal(mine.table.weight, yours.table.weight)
        np.testing.assert_array_equal(mine.table.boost, yours.table.boost)
        assert not np.array_equal(mine.table.belief, yours.table.belief)
        boosts.append(mine.table.boost)
    assert 0.0 < mine.figures["heard"] < mine.figures["noise"] / 0.9, "skill and noise both have a part in it"
    assert (np.diff([boost[out].max() for boost in boosts]) < 0).all(), "it is never raised"


def test_excluded_labels_do_not_enter_the_error() -> None:
    out = [1, 4, 7]
    found = correction(stage(weights={"disagreement": "label"}), teacher=answers(99), excluded=out)
    wrong = np.delete(answers(1).argmax(1) != TARGETS, out)
    assert revise(found, 1).figures["error"] == pytest.approx(wrong.mean()) != wrong.sum() / COUNT


def test_the_boost_is_the_weight_without_the_trust() -> None:
    found = correction(stage(distrust={"noise": 0.3}), teacher=answers(99), excluded=[2])
    table = revise(found, 1).table
    np.testing.assert_allclose(table.boost, found.tables()["weights"].numpy(), rtol=5e-4)
    assert table.weight[2] == 0.0 < table.boost[2] and not np.allclose(table.weight, table.boost)


def test_new_weights_and_the_signal_reach_batches() -> None:
    found = correction(stage(distrust={"rule": "none"}), teacher=answers(99))
    revise(found, 1)
    batch = make_batch(found.sequences, np.array([7, 2]))
    weights = found.tables()["weights"][[7, 2]].float()
    assert torch.equal(batch.sample_weights, weights) and torch.equal(batch.signal_weights, weights)
    with found.source.signal(batch) as signal:
        there = signal.hidden[batch.token_mask] @ signal.head_weight.t()
        np.testing.assert_allclose(probabilities(there), answers(99)[[7, 2]], rtol=1e-5)


def wrong_answers() -> np.ndarray:
    """Every label is contradicted."""
    return np.eye(CLASSES)[(TARGETS + 1) % CLASSES] * 0.8 + 0.2 / CLASSES


def test_weights_of_long_contradicted_labels_are_not_raised() -> None:
    """Sample 0 is contradicted by teacher and student, sample 1 by the student alone; both disagree with the label."""
    right = np.eye(CLASSES)[TARGETS] * 0.8 + 0.2 / CLASSES
    teacher, student = right.copy(), right.copy()
    teacher[0], student[:2] = wrong_answers()[0], wrong_answers()[:2]
    config = stage(weights={"disagreement": "label"}, distrust={"rule": "persistent", "epochs": 2})
    found = correction(config, teacher=teacher)
    history = np.stack([found.revise(as_logits(student)).table.weight for _ in range(4)])
    assert history[0, 0] == history[0, 1] > 1.0
    assert (np.diff(history[:, 0]) <= 1e-6).all() and history[-1, 0] < history[-1, 1]
    assert [found.revise(as_logits(student)).figures["held"] for _ in range(2)] == [1.0, 1.0]


def test_values_of_a_regression_are_not_all_contradicted() -> None:
    """Hardly ever are two numbers the same: that alone must not count as a contradiction of every label."""
    config = stage(weights={"measure": "probability"}, distrust={"rule": "persistent", "epochs": 2})
    found = correction(config, targets=NUMBERS, teacher=answers(99, width=1))
    for epoch in range(6):
        revision = revise(found, epoch, width=1)
        assert revision.figures["held"] < COUNT / 2 and revision.figures["agreement"] > 0.5
        assert revision.figures["alpha"] > 0


def test_initial_weights_hold_in_the_first_epoch() -> None:
    first = np.linspace(0.5, 1.5, COUNT)
    found = Correction(
        stage(distrust={"rule": "none"}),
        samples(),
        num_revisions=2,
        weights=first,
        teacher=answers(99),
        excluded=np.zeros(COUNT, dtype=bool),
    )
    assert found.sequences.label_weights.tolist() == first.tolist()
    assert found.tables()["weights"].tolist() == first.tolist()
