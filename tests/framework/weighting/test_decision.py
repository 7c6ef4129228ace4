"""The decision whether labels are corrected at all."""

from __future__ import annotations

import numpy as np
import pytest

from espalier.weighting.decision import decide
from espalier.weighting.noise import LabelNoise


def estimate(share: float, low: float, high: float) -> LabelNoise:
    return LabelNoise(share, low, high, np.full(3, low), 2.0)


@pytest.mark.parametrize(
    ("noise", "skill", "acts", "says"),
    [
        (estimate(0.2, 0.15, 0.25), 0.6, 0.15, "labels are corrected: 20.0% of the labels look wrong"),
        (estimate(0.2, 0.02, 0.4), 0.6, 0.0, "(2.0% to 40.0%), and that is not certainly 3.0%"),
        (estimate(0.2, 0.15, 0.25), 0.1, 0.0, "know too little (skill 0.10) to judge labels"),
        (estimate(0.0, 0.0, 0.0), 0.6, 0.0, "nothing is corrected: 0.0% of the labels"),
    ],
)
def test_the_lower_end_of_the_noise_decides_and_a_sentence_tells_why(
    noise: LabelNoise, skill: float, acts: float, says: str
) -> None:
    found = decide(noise, skill=skill, min_noise=0.03, min_skill=0.3)
    assert found.noise == acts and says in found.reason


def test_with_a_least_noise_of_zero_any_certain_noise_is_corrected() -> None:
    assert decide(estimate(0.01, 0.001, 0.1), skill=0.0, min_noise=0.0, min_skill=0.0).noise == 0.001
