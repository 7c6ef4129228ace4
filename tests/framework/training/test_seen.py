"""Answers that training gives anyway: the newest of each sample, of all workers."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.kinds.correct.running_predictions import RunningPredictions


@dataclass
class Worker:
    """One of two workers that take turns: `sum` adds what the other was last seen to hold of the same shape."""

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


def seen(*, worker: Worker | None = None, tables: dict[str, Tensor] | None = None) -> RunningPredictions:
    return RunningPredictions(4, 2, worker or Worker(0), tables or {})


def logits(*rows: float) -> Tensor:
    return torch.tensor([[row, -row] for row in rows])


def test_the_newest_answers_are_known() -> None:
    found = seen()
    found.note(batch(2, 0), logits(1.0, 2.0))
    found.note(batch(1, 3), logits(3.0, 4.0))
    assert found.answers()[:, 0].tolist() == [2.0, 3.0, 1.0, 4.0]
    found.note(batch(0, 3), logits(5.0, 6.0))
    assert found.answers()[:, 0].tolist() == [5.0, 3.0, 1.0, 6.0], "who was not asked again keeps the last answer"
    assert found.answers()[:, 1].tolist() == [-5.0, -3.0, -1.0, -6.0]


def test_who_came_twice_has_the_mean() -> None:
    found = seen()
    found.note(batch(1, 1), logits(1.0, 4.0))
    found.note(batch(1, 2), logits(7.0, 1.0))
    assert found.answers()[:, 0].tolist() == [0.0, 4.0, 1.0, 0.0]


def test_answers_are_kept_in_float32() -> None:
    found = seen()
    found.note(batch(0), torch.tensor([[1.5, 0.25]], dtype=torch.bfloat16))
    assert found.answers().dtype == torch.float32


def test_answers_of_all_workers_meet() -> None:
    mine, theirs = seen(worker=(me := Worker(0))), seen(worker=Worker(1))
    mine.note(batch(0, 1), logits(1.0, 2.0))
    theirs.note(batch(2, 1), logits(3.0, 6.0))
    me.others = [theirs._sums, theirs._counts]
    assert mine.answers()[:, 0].tolist() == [1.0, 4.0, 3.0, 0.0]


def test_resuming_in_the_middle_of_an_epoch_changes_no_answer() -> None:
    """What a checkpoint holds is the sum over workers, and only rank zero takes it up again."""

    def first_half(found: RunningPredictions) -> None:
        found.note(batch(0, 1, 2, 3), logits(1.0, 2.0, 3.0, 4.0))
        found.answers()
        found.note(batch(3, 0), logits(9.0, 8.0))

    whole, cut = seen(), seen()
    first_half(whole)
    first_half(cut)
    kept = {name: table.clone() for name, table in cut.tables().items()}
    workers = [seen(worker=Worker(rank), tables=kept) for rank in (0, 1)]
    whole.note(batch(3), logits(5.0))
    workers[1].note(batch(3), logits(5.0))
    workers[0]._world.others = [workers[1]._sums.clone(), workers[1]._counts.clone()]
    assert torch.equal(workers[0].answers(), whole.answers())
    assert torch.equal(kept["seen_sums"][3], logits(9.0)[0]), "a checkpoint's tables stay as they were"


def test_answers_begin_anew_with_each_epoch() -> None:
    found = seen()
    found.note(batch(0), logits(1.0))
    found.answers()
    tables = found.tables()
    assert not tables["seen_sums"].any() and not tables["seen_counts"].any()
    assert tables["seen_known"][0].tolist() == [1.0, -1.0]
