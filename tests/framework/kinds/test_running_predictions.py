"""Running predictions: the newest prediction on each sample, over all workers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.kinds.correct.running_predictions import RunningPredictions


@dataclass
class Worker:
    """A stand-in for `World` that adds tensors of another worker, set by the test, in `sum`."""

    rank: int
    others: list[Tensor] = field(default_factory=list)

    @property
    def is_rank_zero(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        return values.clone() + (self.others.pop(0) if self.others else 0)


def batch(*ids: int) -> Batch:
    blank = torch.zeros(len(ids), 2, dtype=torch.int64)
    return Batch(blank, blank, blank, None, torch.tensor(ids), torch.ones(len(ids)))


def running(*, worker: Worker | None = None, tables: dict[str, Tensor] | None = None) -> RunningPredictions:
    return RunningPredictions(4, 2, worker or Worker(0), tables or {})


def logits(*rows: float) -> Tensor:
    return torch.tensor([[row, -row] for row in rows])


def test_the_newest_prediction_of_each_sample_is_kept() -> None:
    found = running()
    found.note(batch(2, 0), logits(1.0, 2.0))
    found.note(batch(1, 3), logits(3.0, 4.0))
    assert found.predictions()[:, 0].tolist() == [2.0, 3.0, 1.0, 4.0]
    found.note(batch(0, 3), logits(5.0, 6.0))
    assert found.predictions()[:, 0].tolist() == [5.0, 3.0, 1.0, 6.0], (
        "a sample without a new prediction keeps the last one"
    )
    assert found.predictions()[:, 1].tolist() == [-5.0, -3.0, -1.0, -6.0]


def test_a_sample_trained_on_twice_has_the_mean() -> None:
    found = running()
    found.note(batch(1, 1), logits(1.0, 4.0))
    found.note(batch(1, 2), logits(7.0, 1.0))
    assert found.predictions()[:, 0].tolist() == [0.0, 4.0, 1.0, 0.0]


def test_predictions_are_kept_in_float32() -> None:
    found = running()
    found.note(batch(0), torch.tensor([[1.5, 0.25]], dtype=torch.bfloat16))
    assert found.predictions().dtype == torch.float32


def test_predictions_are_summed_over_workers() -> None:
    mine, theirs = running(worker=(me := Worker(0))), running(worker=Worker(1))
    mine.note(batch(0, 1), logits(1.0, 2.0))
    theirs.note(batch(2, 1), logits(3.0, 6.0))
    me.others = [theirs._sums, theirs._counts]
    assert mine.predictions()[:, 0].tolist() == [1.0, 4.0, 3.0, 0.0]


def test_resuming_in_the_middle_of_an_epoch_changes_no_prediction() -> None:
    """What a checkpoint holds is the sum over workers, and only rank zero takes it up again."""

    def first_half(found: RunningPredictions) -> None:
        found.note(batch(0, 1, 2, 3), logits(1.0, 2.0, 3.0, 4.0))
        found.predictions()
        found.note(batch(3, 0), logits(9.0, 8.0))

    whole, cut = running(), running()
    first_half(whole)
    first_half(cut)
    kept = {name: table.clone() for name, table in cut.tables().items()}
    workers = [running(worker=Worker(rank), tables=kept) for rank in (0, 1)]
    whole.note(batch(3), logits(5.0))
    workers[1].note(batch(3), logits(5.0))
    workers[0]._world.others = [workers[1]._sums.clone(), workers[1]._counts.clone()]
    assert torch.equal(workers[0].predictions(), whole.predictions())
    assert torch.equal(kept["seen_sums"][3], logits(9.0)[0]), "a checkpoint's tables stay as they were"


def test_a_new_collection_begins_with_each_epoch() -> None:
    found = running()
    found.note(batch(0), logits(1.0))
    found.predictions()
    tables = found.tables()
    assert not tables["seen_sums"].any() and not tables["seen_counts"].any()
    assert tables["seen_known"][0].tolist() == [1.0, -1.0]
