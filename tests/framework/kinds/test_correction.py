"""The state of a `correct` stage over labelled data, epoch by epoch, and resuming from its tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from espalier.config.correction import SignalConfig
from espalier.data.batches import make_batch
from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.tokenizer import Encoded
from espalier.evaluation.answers import as_logits, probabilities
from espalier.kinds.correct.correction import Correction, Revision
from espalier.kinds.correct.kind import CorrectStage
from espalier.weighting.boosting import effective_share
from espalier.weighting.label_trust import trust_of_confidence
from espalier.weighting.noise import LabelNoise, label_noise
from espalier.weighting.signal_trust import signal_trust
from espalier.weighting.skill import skill_of_right

COUNT, CLASSES = 13, 3
TARGETS = np.arange(COUNT) % CLASSES
NUMBERS = np.linspace(-1.0, 2.0, COUNT)


def stage(**settings: Any) -> CorrectStage:
    needed = {
        "name": "heal",
        "kind": "correct",
        "student": "parent",
        "teacher": "twins",
        "budget": {"epochs": 5},
        "batch": {"sequences": 1},
        "optimizer": {"lr": 0.1},
    }
    signal = {"min_skill": 0.0} | settings.get("signal", {})  # random answers have none
    return CorrectStage.model_validate(needed | settings | {"signal": signal})


def samples(targets: np.ndarray = TARGETS, own_weights: np.ndarray | None = None) -> LabelledSequences:
    names = tuple(map(str, range(COUNT)))
    examples = Examples(names, names, None, targets, np.ones(COUNT) if own_weights is None else own_weights)
    return LabelledSequences(examples, [Encoded([1, 2], None)] * COUNT, "first")


def answers(seed: int, *, width: int = CLASSES) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.dirichlet(np.ones(width), COUNT) if width > 1 else NUMBERS[:, None] + draw.normal(size=(COUNT, 1))


def correction(
    config: CorrectStage,
    *,
    targets: np.ndarray = TARGETS,
    teacher: np.ndarray | None = None,
    is_held_out: bool = False,
    excluded: list[int] | None = None,
    num_revisions: int = 5,
) -> Correction:
    return Correction(
        config,
        samples(targets),
        num_revisions=num_revisions,
        weights=np.ones(COUNT),
        teacher=teacher,
        is_held_out=is_held_out,
        excluded=np.isin(np.arange(COUNT), excluded or []),
    )


def revise(correction: Correction, seed: int, *, width: int = CLASSES) -> Revision:
    return correction.revise(as_logits(answers(seed, width=width)))


def signal(correction: Correction) -> np.ndarray:
    return probabilities(correction.source.logits)


def state(correction: Correction) -> list[Any]:
    """Everything the next steps see."""
    sequences = correction.sequences
    return [sequences.label_weights, sequences.signal_weights, correction.source.logits.numpy(), correction.doubt]


ALONE = {"teacher": None, "signal": {"own_past": [0.5, 1.0], "momentum": 0.25}}
PAST = {"signal": {"own_past": [0.25, 0.75], "momentum": 0.5}, "distrust": {"epochs": 1, "rule": "persistent"}}
ROUND_TRIPS: dict[str, tuple[dict[str, Any], bool, int]] = {
    "teacher": ({}, True, CLASSES),
    "teacher and past": (PAST, True, CLASSES),
    "past alone": (ALONE, False, CLASSES),
    "labels alone": (
        {"teacher": None, "signal": {"weight": 0.0}, "weights": {"disagreement": "label"}},
        False,
        CLASSES,
    ),
    "regression": ({**PAST, "weights": {"measure": "probability"}}, True, 1),
}


@pytest.mark.parametrize("epochs", [0, 1, 3])
@pytest.mark.parametrize("case", ROUND_TRIPS)
def test_a_resumed_state_goes_on_with_the_same_bits(case: str, epochs: int) -> None:
    settings, has_teacher, width = ROUND_TRIPS[case]
    targets = TARGETS if width > 1 else NUMBERS
    config, teacher = stage(**settings), answers(99, width=width) if has_teacher else None
    whole = correction(config, targets=targets, teacher=teacher, excluded=[4])
    for epoch in range(epochs):
        revise(whole, epoch, width=width)
    kept = {name: table.clone() for name, table in whole.tables().items()}
    resumed = correction(config, targets=targets, excluded=[4])
    resumed.restore({name: table.clone() for name, table in kept.items()})
    for mine, theirs in zip(state(resumed), state(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for epoch in range(epochs, epochs + 2):
        here, there = (revise(one, epoch, width=width) for one in (whole, resumed))
        assert here.figures == there.figures
        for name, column in vars(here.table).items():
            np.testing.assert_array_equal(column, vars(there.table)[name], err_msg=name)
        for mine, theirs in zip(state(resumed), state(whole), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert resumed.tables().keys() == whole.tables().keys()
    for name, table in kept.items():
        assert table.dtype in (torch.float64, torch.float32), name


def test_saved_tables_do_not_change_later() -> None:
    found = correction(stage(), teacher=answers(99))
    revise(found, 1)
    tables = found.tables()
    kept = {name: table.clone() for name, table in tables.items()}
    revise(found, 2)
    assert all(torch.equal(tables[name], kept[name]) for name in tables)
    assert not torch.equal(found.tables()["weights"], kept["weights"])


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


def test_suspects_come_by_descending_doubt_and_excluded_labels_last() -> None:
    found = correction(stage(), teacher=answers(99), excluded=[2, 5])
    revise(found, 1)
    order, doubt = found.suspects.tolist(), found.doubt
    assert sorted(order) == list(range(COUNT)) and set(order[-2:]) == {2, 5}
    assert (np.diff(doubt[order[:-2]]) <= 0).all() and doubt[order[-2]] >= doubt[order[-1]]


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


@pytest.mark.parametrize("weight", [0.25, 1.0])
@pytest.mark.parametrize("counts_in", ["label", "signal", "both"])
def test_the_recorded_weight_is_the_factor_that_batches_carry(counts_in: str, weight: float) -> None:
    """Own weight, class balance, boosting and trust together; of the signal where that alone is weighed."""
    own = np.linspace(0.5, 1.5, COUNT)
    config = stage(weights={"counts_in": counts_in}, distrust={"noise": 0.3}, signal={"weight": weight})
    found = Correction(
        config,
        samples(own_weights=own),
        num_revisions=5,
        weights=np.ones(COUNT),
        teacher=answers(99),
        excluded=np.arange(COUNT) == 2,
    )
    for epoch in range(2):
        revision = revise(found, epoch)
        batch = make_batch(found.sequences, np.arange(COUNT))
        carried = batch.signal_weights if counts_in == "signal" or weight == 1.0 else batch.sample_weights
        assert carried is not None and revision.table.weight.tolist() == carried.tolist()
        assert revision.figures["largest_weight"] == pytest.approx(float(carried.max()), rel=1e-6)
        assert revision.figures["effective_share"] == pytest.approx(effective_share(carried.double().numpy()), rel=1e-5)
    assert not np.allclose(revision.table.weight, revision.table.boost)


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


def test_the_table_of_a_classification() -> None:
    found = correction(stage(), teacher=answers(99))
    table = revise(found, 1).table
    ours, theirs = answers(1), answers(99)
    assert table.student.tolist() == ours.argmax(1).tolist() and table.student.dtype == np.int16
    assert table.teacher.tolist() == theirs.argmax(1).tolist()
    assert table.agrees.tolist() == (ours.argmax(1) == theirs.argmax(1)).tolist()
    np.testing.assert_allclose(table.loss, -np.log(ours[np.arange(COUNT), TARGETS]), rtol=1e-4)
    assert table.weight.tolist() == found.sequences.label_weights.astype(np.float32).tolist()


def test_the_table_of_a_regression() -> None:
    config = stage(weights={"tolerance": 0.3})
    found = correction(config, targets=NUMBERS, teacher=answers(99, width=1))
    table = revise(found, 1, width=1).table
    ours, theirs = answers(1, width=1)[:, 0], answers(99, width=1)[:, 0]
    np.testing.assert_allclose(table.student, ours, rtol=1e-6)
    np.testing.assert_allclose(table.loss, (ours - NUMBERS) ** 2, rtol=1e-4)
    assert table.agrees.tolist() == (np.abs(ours - theirs) <= 0.3).tolist()
    assert table.student.dtype == table.teacher.dtype == np.float32


def test_agreement_is_with_the_signal() -> None:
    found = correction(stage(teacher=None, signal={"own_past": [1.0, 1.0]}))
    with_labels = revise(found, 1).figures["agreement"]
    assert with_labels == pytest.approx((answers(1).argmax(1) == TARGETS).mean())
    with_past = revise(found, 2).figures["agreement"]
    assert with_past == pytest.approx((answers(2).argmax(1) == answers(1).argmax(1)).mean())


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
