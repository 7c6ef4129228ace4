"""The learning rate is a function of the step alone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from espalier.config.training import OptimizerConfig
from espalier.engine.schedule import learning_rate


def rates(num_steps: int = 100, **settings: object) -> list[float]:
    config = OptimizerConfig(lr=2.0, **settings)
    return [learning_rate(config, step=step, num_steps=num_steps) for step in range(num_steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd", "constant"])
def test_warms_up_to_the_peak_and_never_beyond(schedule: str) -> None:
    found = rates(schedule=schedule, warmup=0.1)
    assert found[:10] == pytest.approx([0.2 * step for step in range(1, 11)])
    assert max(found) == 2.0


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_falls_to_its_final_share(schedule: str) -> None:
    found = rates(num_steps=1000, schedule=schedule, final_lr_ratio=0.25)
    assert found[-1] == pytest.approx(0.5, rel=0.02)
    assert all(later <= earlier for earlier, later in pairwise(found[20:]))


def test_wsd_is_constant_until_its_decay() -> None:
    found = rates(schedule="wsd", warmup=0.0, decay=0.2)
    assert found[:80] == [2.0] * 80 and found[80] == 2.0 and found[81] < 2.0


def test_cosine_is_half_way_in_the_middle() -> None:
    assert rates(schedule="cosine", warmup=0.0, final_lr_ratio=0.0)[50] == pytest.approx(1.0)


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_one_step_has_a_rate(warmup: float) -> None:
    assert 0 < rates(num_steps=1, warmup=warmup)[0] <= 2.0
