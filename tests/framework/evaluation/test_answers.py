"""Answers of a model on labelled samples: each asked once, whatever the number of workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from espalier.data.batch import Batch
from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.tokenizer import Encoded
from espalier.distributed.world import World
from espalier.evaluation.answers import all_answers, as_logits, probabilities

LENGTHS = (3, 7, 2, 5, 11, 4, 6)
WEIGHT, BIAS = torch.arange(6.0).view(3, 2) - 2.0, torch.tensor([0.5, 0.0, -0.25])


class OneOfMany(World):
    """A worker whose sums are its own part; the test adds them up."""

    def sum(self, values: Tensor) -> Tensor:
        return values.clone()


def sequences(read_at: str) -> LabelledSequences:
    count = len(LENGTHS)
    names = tuple(map(str, range(count)))
    examples = Examples(names, names, None, np.arange(count) % 3, np.ones(count))
    encoded = [Encoded([10 * index + place for place in range(length)], None) for index, length in enumerate(LENGTHS)]
    return LabelledSequences(examples, encoded, read_at)


def ask(batch: Batch, use: Callable[..., Tensor]) -> Tensor:
    """A model whose hidden states are the tokens and their squares."""
    hidden = torch.stack([batch.input_ids.float(), batch.input_ids.float() ** 2], dim=-1)
    return use(hidden, WEIGHT, BIAS)


def asked(read_at: str, *, rank: int = 0, size: int = 1, microbatch: int = 2, **settings: Any) -> Tensor:
    world = OneOfMany(rank, size, torch.device("cpu"))
    return all_answers(ask, sequences(read_at), width=3, microbatch_sequences=microbatch, world=world, **settings)


@pytest.mark.parametrize("read_at", ["first", "last"])
def test_every_sample_is_predicted_at_the_token_that_the_head_reads(read_at: str) -> None:
    tokens = torch.tensor([10.0 * i + (0 if read_at == "first" else length - 1) for i, length in enumerate(LENGTHS)])
    expected = torch.stack([tokens, tokens**2], dim=-1) @ WEIGHT.t() + BIAS
    torch.testing.assert_close(asked(read_at), expected)


@pytest.mark.parametrize(("size", "microbatch"), [(1, 3), (1, 100), (2, 2), (3, 2), (5, 3)])
def test_workers_share_the_samples_out(size: int, microbatch: int) -> None:
    """With more workers than microbatches some are blank; they are asked too, and write nothing down."""
    parts = [asked("last", rank=rank, size=size, microbatch=microbatch) for rank in range(size)]
    assert torch.stack([(part != 0).any(1) for part in parts]).sum(0).tolist() == [1] * len(LENGTHS)
    assert torch.equal(sum(parts), asked("last"))


def test_progress_ends_with_all_samples() -> None:
    for size in (1, 2):
        told: list[int] = []
        asked("first", size=size, on_progress=told.append)
        assert told == ([2, 4, 6, 7] if size == 1 else [4, 7])


def test_probabilities_are_those_of_a_softmax_in_float64() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0], [300.0, -300.0, 0.0]])
    found = probabilities(logits)
    assert found.dtype == np.float64
    powers = np.exp([1.0, 2.0, 4.0])
    np.testing.assert_allclose(found, [powers / powers.sum(), [1, 0, 0]], atol=1e-12)
    np.testing.assert_array_equal(probabilities(torch.tensor([[1.5], [-2.0]])), [[1.5], [-2.0]])


def test_logits_of_probabilities_give_them_back() -> None:
    answers = np.random.default_rng(5).dirichlet(np.ones(4), 6)
    np.testing.assert_allclose(probabilities(as_logits(answers)), answers, rtol=1e-6)
    certain = as_logits(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert certain.dtype == torch.float32 and torch.isfinite(certain).all()
    np.testing.assert_allclose(probabilities(certain), np.eye(2), atol=1e-11)
    assert as_logits(np.array([[1.5], [-2.0]])).tolist() == [[1.5], [-2.0]]
