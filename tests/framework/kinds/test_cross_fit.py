"""How samples are divided into folds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from espalier.data.examples import Examples
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.order import positions_to_indices
from espalier.data.tokenizer import Encoded
from espalier.distributed.streams import stream_seed
from espalier.kinds.cross_fit.fold_model import Fold, folds_of
from espalier.kinds.cross_fit.kind import CrossFitStage

FOLDS, SEED = 3, 5


def folds(texts: list[str], targets: np.ndarray, *, repeats: int = 1, pairs: list[str] | None = None) -> list[Fold]:
    settings: dict[str, Any] = {"name": "twins", "kind": "cross_fit", "student": "parent", "budget": {"epochs": 1}}
    settings |= {"batch": {"sequences": 1}, "optimizer": {"lr": 0.1}, "folds": FOLDS, "repeats": repeats}
    names = tuple(map(str, range(len(texts))))
    examples = Examples(names, tuple(texts), pairs and tuple(pairs), targets, np.ones(len(texts)))
    samples = LabelledSequences(examples, [Encoded([1, 2], None)] * len(texts), "first")
    context = SimpleNamespace(config=CrossFitStage.model_validate(settings), job=SimpleNamespace(seed=SEED))
    return folds_of(context, samples)


@pytest.mark.parametrize("pairs", [False, True])
def test_all_samples_of_a_text_are_in_one_fold(pairs: bool) -> None:
    draw = np.random.default_rng(2)
    texts = [f"text {number}" for number in draw.integers(0, 23, 53)]
    others = [f"other {number}" for number in draw.integers(0, 2, 53)]
    targets, words = draw.integers(0, 2, 53), list(zip(texts, others, strict=True)) if pairs else texts
    for fold in folds(texts, targets, repeats=2, pairs=others if pairs else None):
        assert not {words[place] for place in fold.held_out} & {words[place] for place in fold.trained}
        assert sorted([*fold.held_out, *fold.trained]) == list(range(53)) and len(fold.held_out)


def test_each_sample_is_held_out_once_in_each_repeat() -> None:
    texts = [f"text {number % 17}" for number in range(40)]
    found = folds(texts, np.arange(40) % 2, repeats=2)
    for repeat in (found[:FOLDS], found[FOLDS:]):
        assert sorted(place for fold in repeat for place in fold.held_out) == list(range(40))
    assert [fold.number for fold in found] == list(range(2 * FOLDS))
    assert not np.array_equal(found[0].held_out, found[FOLDS].held_out)


def test_folds_have_nearly_equal_shares_of_each_class_by_the_first_label_of_a_text() -> None:
    texts = [f"text {number % 30}" for number in range(60)]
    targets = np.concatenate([np.arange(30) % 3, np.full(30, 2)])
    for fold in folds(texts, targets):
        first = fold.held_out[fold.held_out < 30]
        assert len(first) == 10 and max(np.bincount(targets[first])) - min(np.bincount(targets[first])) <= 1


@pytest.mark.parametrize("targets", [np.arange(29) % 3, np.linspace(0.0, 1.0, 29)])
def test_without_repeated_texts_folds_are_those_of_earlier_versions(targets: np.ndarray) -> None:
    seed = stream_seed(SEED, "folds", 0)
    shuffled = positions_to_indices(np.arange(29), num_sequences=29, seed=seed)
    kinds = targets[shuffled] if targets.dtype == np.int64 else np.zeros(29)
    dealt = shuffled[np.argsort(kinds, kind="stable")]
    for number, fold in enumerate(folds([f"text {number}" for number in range(29)], targets)):
        assert fold.held_out.tolist() == sorted(dealt[number::FOLDS].tolist())
