"""What a `correct` stage records of each sample."""

from __future__ import annotations

import numpy as np
import pytest
from correction_cases import (
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
from espalier.kinds.correct.correction import Correction
from espalier.weighting.boosting import effective_share


def test_suspects_come_by_descending_doubt_and_excluded_labels_last() -> None:
    found = correction(stage(), teacher=answers(99), excluded=[2, 5])
    revise(found, 1)
    order, doubt = found.suspects.tolist(), found.doubt
    assert sorted(order) == list(range(COUNT)) and set(order[-2:]) == {2, 5}
    assert (np.diff(doubt[order[:-2]]) <= 0).all() and doubt[order[-2]] >= doubt[order[-1]]


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
