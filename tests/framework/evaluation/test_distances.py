"""How far a student's sequences are from a teacher's: the mean over what counts, sequence by sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.data.packing import DocumentSequences
from espalier.data.token_files import Tokens
from espalier.distributed.world import World
from espalier.evaluation.distances import sequence_distances
from espalier.objectives.signal import Signal
from espalier.objectives.terms import Term

LENGTHS, VOCABULARY, WIDTH = (5, 2, 7, 11, 3), 31, 7
TABLES = [torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
TERM = Term.of("forward_kl")


class OneOfMany(World):
    def sum(self, values: Tensor) -> Tensor:
        return values.clone()


def ask(batch: Batch, use: Callable[..., Tensor]) -> Tensor:
    return use(TABLES[0][batch.input_ids], TABLES[1], None)


class Teacher:
    @contextmanager
    def signal(self, batch: Batch) -> Iterator[Signal]:
        yield Signal(TABLES[2][batch.input_ids], TABLES[3])


def sequences() -> DocumentSequences:
    return DocumentSequences(Tokens(np.arange(sum(LENGTHS), dtype=np.uint16), np.cumsum([0, *LENGTHS])), 32)


def distances(*, rank: int = 0, size: int = 1, microbatch: int = 2, term: Term = TERM) -> Tensor:
    world = OneOfMany(rank, size, torch.device("cpu"))
    return sequence_distances(ask, Teacher(), sequences(), term=term, microbatch_sequences=microbatch, world=world)


@pytest.mark.parametrize("microbatch", [1, 2, 5])
def test_the_mean_of_a_sequence_s_own_tokens(microbatch: int) -> None:
    expected = []
    for index, length in enumerate(LENGTHS):
        ids = torch.from_numpy(sequences().row(index).input_ids)[: length - 1]  # the last predicts nothing
        q, p = ((TABLES[k][ids] @ TABLES[k + 1].t()).double().softmax(-1) for k in (0, 2))
        expected.append((p * (p / q).log()).sum(-1).mean())
    got = distances(microbatch=microbatch)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_workers_share_the_sequences_out(size: int) -> None:
    parts = [distances(rank=rank, size=size) for rank in range(size)]
    assert torch.stack([part != 0 for part in parts]).sum(0).tolist() == [1] * len(LENGTHS)
    assert torch.equal(sum(parts), distances())


def test_another_term_is_another_distance() -> None:
    assert not torch.allclose(distances(term=Term.of("reverse_kl")), distances())
