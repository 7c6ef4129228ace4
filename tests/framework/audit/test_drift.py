"""Drift of answers: chance is called chance, a change a change, and too few samples too few."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.audit.drift import AnswerRecord, drift

NAMES = tuple(f"c{number}" for number in range(5))


def record(count: int, shares: np.ndarray, *, seed: int, sure: float = 4.0, words: float = 30.0) -> AnswerRecord:
    draw = np.random.default_rng(seed)
    answers = draw.choice(len(shares), count, p=shares / shares.sum())
    return AnswerRecord(answers, draw.beta(sure, 1.0, count), draw.poisson(words, count))


def readings(before: AnswerRecord, now: AnswerRecord, names: tuple[str, ...] = NAMES) -> dict[str, str]:
    return {one.what: one.reading for one in drift(before, now, names).shifts}


@pytest.mark.parametrize("num_classes", [2, 5, 150])
def test_samples_of_one_distribution_seldom_differ(num_classes: int) -> None:
    shares, names = 1.0 / np.arange(1, num_classes + 1), tuple(map(str, range(num_classes)))
    said = [
        reading
        for seed in range(40)
        for reading in readings(record(700, shares, seed=seed), record(2000, shares, seed=seed + 1000), names).values()
    ]
    assert said.count("no more than chance") / len(said) > 0.9
    assert not {"moderate", "large"} & set(said)
    certain = [
        any(
            one.is_certain
            for one in drift(record(700, shares, seed=s), record(2000, shares, seed=s + 99), names).classes
        )
        for s in range(40)
    ]
    assert np.mean(certain) <= 0.15


def test_a_change_is_seen_where_it_is() -> None:
    even, other = np.ones(5), np.array([1.0, 1.0, 1.0, 1.0, 5.0])
    before = record(1000, even, seed=1)
    assert readings(before, record(1000, other, seed=2))["answers"] == "large"
    found = drift(before, record(1000, other, seed=2), NAMES)
    assert found.classes[0].name == "c4" and found.classes[0].is_certain
    assert found.classes[0].before == pytest.approx(0.2, abs=0.05) and found.classes[0].now > 0.5
    longer = readings(before, record(1000, even, seed=2, words=45.0))
    assert longer == {"answers": "no more than chance", "confidence": "no more than chance", "length": "large"}
    assert readings(before, record(1000, even, seed=2, sure=2.0))["confidence"] == "large"


def test_a_small_change_of_many_samples_is_called_small() -> None:
    before = record(50_000, np.ones(5), seed=1)
    assert readings(before, record(50_000, np.array([1.0, 1.0, 1.0, 1.0, 1.2]), seed=2))["answers"] == "small"


@pytest.mark.parametrize("sizes", [(12, 5000), (5000, 12), (3, 1)])
def test_too_few_samples_say_nothing(sizes: tuple[int, int]) -> None:
    before, now = record(sizes[0], np.ones(5), seed=1), record(sizes[1], np.array([9.0, 1, 1, 1, 1]), seed=2)
    assert set(readings(before, now).values()) == {"too few samples to tell"}
    assert not any(one.is_certain for one in drift(before, now, NAMES).classes)


def test_values_are_compared_too() -> None:
    draw = np.random.default_rng(5)
    before, now = (AnswerRecord(draw.normal(mean, 1.0, 900), None, np.full(900, 7)) for mean in (0.0, 1.0))
    assert readings(before, now, ()) == {"answers": "large", "length": "no more than chance"}
    assert readings(before, before, ()) == {"answers": "no more than chance", "length": "no more than chance"}
