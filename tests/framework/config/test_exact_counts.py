"""Counts come from the decimals that were written, not from the floats beside them."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalier.config.growth import FromScratch
from espalier.config.training import BatchConfig, BudgetConfig, OptimizerConfig, SchedulePart
from espalier.data.examples import Examples, _held_out
from espalier.engine.schedule import learning_rate, steps_before
from espalier.kinds.prune.kind import SearchConfig
from espalier.models.shape import ModelShape
from espalier.recipes.progressive_growth import ProgressiveGrowth, stages
from espalier.surgery.search import _sizes


@pytest.mark.parametrize(
    ("epochs", "samples", "sequences", "steps"),
    [(1.1, 100, 10, 11), (0.55, 100, 5, 11), (2.2, 50, 10, 11), (1e-05, 100, 10, 1), (1.1, 101, 10, 12), (3, 7, 2, 11)],
)
def test_epochs_buy_as_many_steps_as_they_say(epochs: float, samples: int, sequences: int, steps: int) -> None:
    budget = BudgetConfig(epochs=epochs)
    assert budget.num_steps(sequences=sequences, sequence_tokens=32, num_samples=samples) == steps


@given(st.integers(1, 10**7), st.integers(1, 10**6), st.integers(1, 512))
def test_epochs_of_hundredths_are_counted_as_whole_numbers(hundredths: int, samples: int, sequences: int) -> None:
    budget = BudgetConfig(epochs=float(Decimal(hundredths) / 100))
    steps = budget.num_steps(sequences=sequences, sequence_tokens=32, num_samples=samples)
    assert steps == -(-hundredths * samples // (100 * sequences))


def test_a_share_of_epochs_is_the_decimal_product() -> None:
    assert BudgetConfig(epochs=3.0).part(0.1).epochs == 0.3
    assert BudgetConfig(steps=50).part(0.57).steps == 28  # 28.5 goes to the even one; the float is 28.499999999999996
    assert BudgetConfig(steps=100).part(0.575).steps == 58  # the float is 57.49999999999999


def test_phases_of_a_schedule_take_whole_steps() -> None:
    warming = OptimizerConfig(lr=1.0, warmup=0.575, schedule="constant")
    rates = [learning_rate(warming, step=step, num_steps=100) for step in range(100)]
    assert sum(rate < 1.0 for rate in rates) == 57 and rates[56] == pytest.approx(57 / 58)
    falling = OptimizerConfig(lr=1.0, warmup=0.0, decay=0.575, schedule="wsd")
    assert sum(learning_rate(falling, step=step, num_steps=100) < 1.0 for step in range(100)) == 57
    part = SchedulePart(start=0.575, end=0.675)
    assert steps_before(OptimizerConfig(lr=1.0, part=part), num_steps=10) == 58


def test_phases_that_fill_the_schedule_are_right() -> None:
    for thousandths in range(1001):
        warmup, decay = float(Decimal(thousandths) / 1000), float(Decimal(1000 - thousandths) / 1000)
        OptimizerConfig(lr=1.0, schedule="wsd", warmup=warmup, decay=decay)


def test_boundaries_of_growth_are_whole_steps() -> None:
    shape = FromScratch(family="llama", layers=4, hidden=16, heads=2, tokenizer="somewhere")
    dials = ProgressiveGrowth(
        name="progressive_growth",
        from_scratch=shape,
        budget=BudgetConfig(steps=100),
        batch=BatchConfig(sequences=2),
        depths=(2, 4),
        boundaries=(0.575,),
    )
    made = {stage.name: stage for stage in stages(dials, sequence_tokens=32)}
    assert made["layers_2"].budget.steps == 58 and made["layers_4"].budget.steps == 42


def test_a_held_out_share_is_counted_exactly() -> None:
    names = tuple(str(number) for number in range(100))
    whole = Examples(names, names, None, np.zeros(100, dtype=np.int64), np.ones(100))
    assert _held_out(whole, 0.575).sum() == 58


def test_a_cut_reaches_the_size_that_its_share_names() -> None:
    shape = ModelShape("llama", 2, 64, 1280, 4, 4, 16, 256, 0, True)
    assert min(_sizes("ffn", shape, SearchConfig(ffn_multiple_of=1, max_width_cut=0.4))) == 768
