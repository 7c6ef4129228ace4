"""Signal trust: by the skill of the teacher and the share of wrong labels."""

from __future__ import annotations

import pytest

from espalier.weighting.signal_trust import signal_trust


def test_the_trust_is_zero_for_little_skill_and_else_in_proportion_to_the_noise() -> None:
    assert signal_trust(0.02, noise=0.2, min_skill=0.5, full_at_noise=0.2) == 0.0
    assert signal_trust(0.02, noise=0.2, min_skill=0.0, full_at_noise=0.0) == 1.0
    for noise, expected in ((0.0, 0.0), (0.05, 0.25), (0.2, 1.0), (0.3, 1.0)):
        assert signal_trust(0.9, noise=noise, min_skill=0.5, full_at_noise=0.2) == pytest.approx(expected), noise


def test_the_trust_is_linear_between_half_of_the_least_skill_and_all_of_it() -> None:
    assert signal_trust(0.35, noise=0.0, min_skill=0.5, full_at_noise=0.0) == pytest.approx(0.4)
