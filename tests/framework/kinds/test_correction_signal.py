"""What the student of a `correct` stage learns from beside labels: the teacher, its own past, and their trust."""

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
    signal,
    stage,
)

from espalier.config.correction import SignalConfig
from espalier.weighting.noise import LabelNoise
from espalier.weighting.signal_trust import signal_trust
from espalier.weighting.skill import skill_of_right


def test_the_own_past_takes_over_from_the_teacher() -> None:
    teacher = answers(99)
    found = correction(stage(signal={"own_past": [0.2, 0.8]}), teacher=teacher)
    np.testing.assert_allclose(signal(found), teacher, rtol=1e-6)  # nothing is past yet
    for epoch, share in enumerate([0.35, 0.5, 0.65, 0.8, 0.8], start=1):
        revise(found, epoch)
        np.testing.assert_allclose(signal(found), (1 - share) * teacher + share * answers(epoch), rtol=1e-5)


def test_the_signal_is_the_teacher_s_before_there_is_a_past() -> None:
    """Values show it where probabilities, which always sum to one, would hide a share that is missing."""
    settings = {"signal": {"own_past": [0.5, 0.5]}, "weights": {"measure": "probability"}}
    found = correction(stage(**settings), targets=NUMBERS, teacher=answers(99, width=1))
    np.testing.assert_allclose(signal(found), answers(99, width=1), rtol=1e-6)
    revise(found, 1, width=1)
    np.testing.assert_allclose(signal(found), 0.5 * (answers(99, width=1) + answers(1, width=1)), rtol=1e-5)


def test_stages_of_one_epoch_and_of_less() -> None:
    for num_revisions in (1, 0):
        found = correction(stage(signal={"own_past": [0.0, 1.0]}), teacher=answers(99), num_revisions=num_revisions)
        revise(found, 1)
        np.testing.assert_allclose(signal(found), answers(1), rtol=1e-5)


def test_the_signal_is_the_teacher_s_without_own_past() -> None:
    found, teacher = correction(stage(), teacher=answers(99)), answers(99)
    for epoch in range(3):
        np.testing.assert_allclose(signal(found), teacher, rtol=1e-6)
        revise(found, epoch)


def test_the_past_is_a_moving_average() -> None:
    found = correction(stage(teacher=None, signal={"own_past": [1.0, 1.0], "momentum": 0.75}))
    revise(found, 1)
    np.testing.assert_allclose(signal(found), answers(1), rtol=1e-5)
    revise(found, 2)
    past = 0.75 * answers(1) + 0.25 * answers(2)
    np.testing.assert_allclose(signal(found), past, rtol=1e-5)
    revise(found, 3)
    np.testing.assert_allclose(signal(found), 0.75 * past + 0.25 * answers(3), rtol=1e-5)


def test_without_a_teacher_the_first_epoch_trains_on_labels_only() -> None:
    found = correction(stage(teacher=None, signal={"own_past": [0.5, 0.5]}, distrust={"rule": "none"}))
    assert found.sequences.signal_weights.tolist() == [0.0] * COUNT
    assert found.sequences.label_weights.tolist() == [2.0] * COUNT, "they take the place of what is not there"
    assert found.source.logits.shape == (COUNT, CLASSES) and torch.isfinite(found.source.logits).all()
    first = revise(found, 1)
    assert (first.figures["alpha"], first.figures["error"]) == (0.0, 0.0)
    assert first.table.weight.tolist() == [1.0] * COUNT, "nobody is there to disagree with"
    assert found.sequences.signal_weights.tolist() == [1.0] * COUNT
    second = revise(found, 2)
    apart = answers(1).argmax(1) != answers(2).argmax(1)
    assert second.figures["error"] == pytest.approx(apart.mean()) and second.figures["alpha"] > 0
    assert (second.table.weight[apart] > 1).all() and (second.table.weight[~apart] < 1).all()


@pytest.mark.parametrize("weight", [0.25, 0.8])
def test_a_teacher_without_skill_is_not_trusted_and_labels_take_its_place(weight: float) -> None:
    settings = {"signal": {"weight": weight, "min_skill": 0.1}, "weights": {"rate": 0.0}}
    always_the_same = np.tile([0.5, 0.3, 0.2], (COUNT, 1))
    deaf = correction(stage(**settings), teacher=always_the_same)
    assert deaf.sequences.signal_weights.tolist() == [0.0] * COUNT
    np.testing.assert_allclose((1.0 - weight) * deaf.sequences.label_weights, 1.0, rtol=1e-12)
    assert revise(deaf, 1).figures["heard"] == 0.0
    assert deaf.doubt.max() > 0, "what it says of each sample is written down all the same"


@pytest.mark.parametrize(("noise", "full_at_noise"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.2), (0.0, 0.2)])
def test_labels_take_the_part_of_the_signal_that_is_not_trusted(noise: float, full_at_noise: float) -> None:
    mostly = np.eye(CLASSES)[np.where(np.arange(COUNT) < 8, TARGETS, 0)]
    known = skill_of_right(mostly, TARGETS, LabelNoise.given(noise, CLASSES))
    expected = signal_trust(known, noise=noise, min_skill=0.9, full_at_noise=full_at_noise)
    assert expected < 0.9
    signal = {"min_skill": 0.9, "full_at_noise": full_at_noise}
    config = stage(signal=signal, weights={"rate": 0.0}, distrust={"rule": "none", "noise": noise})
    found = correction(config, teacher=mostly)
    np.testing.assert_allclose(found.sequences.signal_weights, expected)
    np.testing.assert_allclose(0.5 * found.sequences.label_weights + 0.5 * found.sequences.signal_weights, 1.0)


def test_only_the_trust_in_a_cross_fitted_teacher_depends_on_the_noise_by_default() -> None:
    signal = SignalConfig(min_skill=0.0)
    assert signal.full_at(is_held_out=True) == 0.2 and signal.full_at(is_held_out=False) == 0.0
    assert SignalConfig(full_at_noise=0.3).full_at(is_held_out=False) == 0.3
    config = stage(distrust={"noise": 0.05})
    found = correction(config, teacher=answers(99), is_held_out=True)
    np.testing.assert_allclose(found.sequences.signal_weights, 0.25)


def test_a_signal_without_a_loss_on_labels_is_trusted_in_full() -> None:
    config = stage(signal={"weight": 1.0, "min_skill": 1.0})
    assert correction(config, teacher=answers(99)).sequences.signal_weights.tolist() == [1.0] * COUNT


def test_agreement_is_with_the_signal() -> None:
    found = correction(stage(teacher=None, signal={"own_past": [1.0, 1.0]}))
    with_labels = revise(found, 1).figures["agreement"]
    assert with_labels == pytest.approx((answers(1).argmax(1) == TARGETS).mean())
    with_past = revise(found, 2).figures["agreement"]
    assert with_past == pytest.approx((answers(2).argmax(1) == answers(1).argmax(1)).mean())
