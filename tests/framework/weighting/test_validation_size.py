"""Validation sets that are too small to decide on."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.weighting.validation_size import smallest_difference, undecidable


@pytest.mark.parametrize("num_samples", [60, 400, 2000])
def test_equal_models_seldom_differ_by_more(num_samples: int) -> None:
    """Models of equal skill: each is right alone on half of the samples on which they differ."""
    draw = np.random.default_rng(3)
    apart = draw.choice([1, -1, 0], (4000, num_samples), p=[0.05, 0.05, 0.9]).mean(axis=1)
    assert 0.02 < (apart > smallest_difference(num_samples, disagreement=0.1)).mean() < 0.08


def test_too_few_samples_correct_nothing_and_say_so() -> None:
    decision = undecidable(20)
    assert decision is not None and decision.noise == 0.0
    assert decision.reason == (
        "nothing is corrected: 20 validation samples are too few to decide on: a difference of 11.6% may be chance "
        "there, and 109 would tell 5%"
    )
    assert undecidable(108) is not None and undecidable(109) is None
    assert undecidable(0) is not None
