"""Labelled samples as sequences: one target each, at the token that is read, whatever the padding beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from espalier.data.batch import Batch
from espalier.data.batches import in_order, make_batch
from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences, Part, Reweighted
from espalier.data.packing import NO_LABEL
from espalier.data.tokenizer import Encoded
from espalier.engine.objective import token_targets
from espalier.models.families import is_causal
from espalier.models.network import Network
from espalier.objectives.chunked import token_losses
from espalier.objectives.terms import Term
from support.architectures import CONFIGS, build

BEGIN, END = 27, 28
TEXTS = ("kings", "a", "queenandcrown", "no", "sword")
PAIRS = ("or", "b", "c", "never", "d")
CLASSES, NUMBERS = np.array([3, 0, 2, 1, 2]), np.array([1.5, -2.0, 0.0, 7.25, 3.0])


class LetterPairs:
    """a is 1, b is 2; between the marks of an encoder."""

    def encode_samples(self, texts: Sequence[str], pairs: Sequence[str] | None, *, max_tokens: int) -> list[Encoded]:
        found = []
        for text, pair in zip(texts, pairs or [""] * len(texts), strict=True):
            first, second = ([ord(letter) - 96 for letter in part] for part in (text, pair))
            ids = [BEGIN, *first, END, *second][:max_tokens]
            kinds = [0] * (len(first) + 2) + [1] * len(second)
            found.append(Encoded(ids, kinds[:max_tokens]))
        return found


def samples(targets: np.ndarray = CLASSES, *, pairs: tuple[str, ...] | None = PAIRS, weights: Any = None) -> Examples:
    count = len(targets)
    weights = np.ones(count) if weights is None else np.asarray(weights)
    return Examples(tuple(map(str, range(count))), TEXTS[:count], pairs and pairs[:count], targets, weights)


def sequences(read_at: str = "first", *, max_tokens: int = 15, **settings: Any) -> LabelledSequences:
    return LabelledSequences.of(samples(**settings), LetterPairs(), max_tokens=max_tokens, read_at=read_at)


@pytest.mark.parametrize(("read_at", "place"), [("first", 0), ("last", -1)])
@pytest.mark.parametrize("targets", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_the_label_is_only_at_the_token_that_the_head_reads(read_at: str, place: int, targets: np.ndarray) -> None:
    found = sequences(read_at, targets=targets, max_tokens=11)
    for index, target in enumerate(targets):
        row = found.row(index)
        assert row.labels[place] == target and len(row.labels) == len(row.input_ids) <= 11
        rest = np.delete(row.labels, place)
        assert (rest == NO_LABEL).all() if targets is CLASSES else np.isnan(rest).all()
        assert row.labels.dtype == (np.int64 if targets is CLASSES else np.float32)
        assert row.positions.tolist() == list(range(len(row.input_ids))) and not row.documents.any()


@pytest.mark.parametrize("pad", [None, END, BEGIN, 26])
@pytest.mark.parametrize("name", ["gpt2_classifier", "llama_classifier"])
@torch.no_grad()
def test_a_decoder_is_read_where_stock_code_reads_it(name: str, pad: int | None) -> None:
    config = CONFIGS[name] | {"pad_token_id": pad}
    stock, network = build(config), Network(build(config), causal=True).eval()
    encoded = [Encoded(ids, None) for ids in ([3, 4, END], [5, BEGIN, END, END], [END], [BEGIN, 7], [26, 9, 26, 8])]
    rows = LabelledSequences(samples(pairs=None), encoded, "last", pad)
    batch = make_batch(rows, np.arange(len(rows)))
    answers = network(batch, lambda hidden, weight, bias: hidden[batch.token_mask] @ weight.t())
    expected = torch.cat([stock(torch.tensor([one.ids])).logits for one in encoded])
    torch.testing.assert_close(answers, expected, atol=1e-5, rtol=1e-5)


def test_encoders_are_told_the_texts_of_a_pair_apart() -> None:
    assert sequences("first").row(1).token_columns["token_type_ids"].tolist() == [0, 0, 0, 1]


def test_padding_has_no_labels() -> None:
    for targets in (CLASSES, NUMBERS):
        found = sequences(targets=targets)
        batch = make_batch(found, np.array([2, 1]))
        length = len(found.row(1).input_ids)
        assert batch.input_ids.shape == (2, 15) and batch.num_counted_tokens() == 2
        assert batch.token_mask[:, 0].all() and (batch.documents[1, length:] == -1).all()
        assert not batch.columns["token_type_ids"][1, length:].any() and batch.sample_ids.tolist() == [2, 1]
        assert batch.labels[:, 0].tolist() == [targets[2], targets[1]]


def test_rows_of_one_length_need_no_mask() -> None:
    assert make_batch(sequences(pairs=None), np.array([0, 4])).documents is None


def test_tokens_are_counted_without_padding() -> None:
    assert sequences(pairs=None).num_tokens == sum(len(text) + 2 for text in TEXTS)
    assert sequences(pairs=None, max_tokens=4).num_tokens == 4 + 3 + 4 + 4 + 4


def test_weights_come_with_their_samples() -> None:
    weights, label, signal = [0.5, 1.5, 1.0, 0.25, 1.75], np.array([3.0, 0.0, 1, 2, 0.5]), np.array([1, 7.0, 0, 2, 1])
    plain = sequences(weights=weights)
    batch = make_batch(plain, np.array([3, 0]))
    assert batch.sample_weights.tolist() == [0.25, 0.5] and batch.signal_weights is None
    batch = make_batch(Reweighted(plain, label, signal), np.array([4, 1, 0]))
    assert batch.sample_weights.tolist() == [0.875, 0.0, 1.5]
    assert batch.signal_weights.tolist() == [1.75, 10.5, 0.5]
    assert batch.sample_ids.tolist() == [4, 1, 0]


def test_new_weights_hold_from_the_next_batch_on() -> None:
    found = Reweighted(sequences(), np.ones(5), np.ones(5))
    found.label_weights = np.arange(5.0)
    assert make_batch(found, np.arange(5)).sample_weights.tolist() == [0, 1, 2, 3, 4]


def test_a_part_numbers_its_rows_from_zero() -> None:
    whole = sequences()
    part = Part(whole, np.array([4, 1]))
    assert len(part) == 2
    assert part.row(0).input_ids.tolist() == whole.row(4).input_ids.tolist()
    assert make_batch(part, np.array([1])).labels[0, 0] == CLASSES[1]


def network(name: str, outputs: int) -> Network:
    config = CONFIGS[name] | {"id2label": {str(i): str(i) for i in range(outputs)}, "num_labels": outputs}
    config = {key: value for key, value in config.items() if key != "num_labels" or name != "bert_classifier"}
    return Network(build(config), causal=is_causal(config)).eval()


def losses(model: Network, batch: Batch, term: Term) -> list[float]:
    """Of each sample; only its own token has one."""

    def use(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return token_losses(hidden.flatten(0, 1), weight, bias, targets=token_targets(batch, None), term=term)

    with torch.no_grad():
        return model(batch, use).view(batch.labels.shape).sum(1).tolist()


@pytest.mark.parametrize("name", ["bert_classifier", "llama_classifier", "gpt2_classifier"])
@pytest.mark.parametrize("function", ["cross_entropy", "squared_error"])
def test_padding_does_not_change_the_loss_of_a_sample(name: str, function: str) -> None:
    number = function == "squared_error"
    model, term = network(name, 1 if number else 4), Term.of(function)
    read_at = "last" if is_causal(CONFIGS[name]) else "first"
    found = sequences(read_at, targets=NUMBERS if number else CLASSES)
    alone = [losses(model, make_batch(found, np.array([index])), term)[0] for index in range(5)]
    assert min(alone) > 0 and len(set(alone)) == 5
    np.testing.assert_allclose(losses(model, make_batch(found, np.arange(5)), term), alone, rtol=2e-5)


@pytest.mark.parametrize("name", ["bert_classifier", "llama_classifier"])
def test_a_blank_batch_is_run_and_adds_nothing(name: str) -> None:
    found = sequences("last" if is_causal(CONFIGS[name]) else "first")
    batches = list(in_order(found, None, rank=1, num_ranks=2, microbatch_sequences=5))
    assert [batch.sample_ids.tolist() for batch in batches] == [[-1]]
    (blank,) = batches
    assert blank.num_counted_tokens() == 0 and blank.sample_weights.tolist() == [0.0]
    assert losses(network(name, 4), blank, Term.of("cross_entropy")) == [0.0]
