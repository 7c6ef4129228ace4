"""Weights of the next epoch: steps by hand, and what holds for any input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from espalier.config.correction import WeightsConfig
from espalier.weighting.boosting import BoostingStep, boost, bounded_weights, effective_share, softened_weights

Array = NDArray[np.float64]
FREE: dict[str, Any] = {"ceiling": 1e6, "min_effective_share": 0.0}
WEIGHTS = st.floats(1e-300, 1e300)


def sizes(least: float, most: float) -> st.SearchStrategy[float]:
    """Numbers that a job file may give: 0, or at least 1e-30."""
    return st.floats(least, most).map(lambda size: size if size >= 1e-30 else 0.0)


def step(
    weights: list[float],
    apart: list[float],
    *,
    num_classes: int = 2,
    not_raised: list[int] | None = None,
    **config: Any,
) -> BoostingStep:
    stopped = np.isin(np.arange(len(weights)), not_raised or [])
    rate = config.pop("rate", 0.5)
    settings = WeightsConfig(**FREE | config)
    return boost(
        np.array(weights), np.array(apart), num_classes=num_classes, not_raised=stopped, config=settings, rate=rate
    )


def test_samme_of_two_classes_by_hand() -> None:
    found = step([1, 1, 1, 1], [1, 0, 0, 0], rate=1.0)
    assert found.error == 0.25 and found.alpha == pytest.approx(math.log(3))
    np.testing.assert_allclose(found.weights, [2, 2 / 3, 2 / 3, 2 / 3])  # 3, 1, 1, 1 with a mean of 1
    assert found.effective_share == pytest.approx(16 / (4 * (4 + 3 * 4 / 9)))


def test_the_error_of_five_classes_counts_as_a_share_of_chance() -> None:
    found = step([1, 1, 1, 1, 1], [1, 1, 0, 0, 0], num_classes=5, rate=1.0)
    assert found.alpha == pytest.approx(math.log(3))  # an error of 0.4 is half of chance, as 0.25 is of two classes
    np.testing.assert_allclose(found.weights / found.weights[4], [3, 3, 1, 1, 1])


def test_the_error_is_weighted() -> None:
    found = step([2.5, 0.5, 0.5, 0.5], [0, 1, 1, 0], rate=1.0)
    assert found.error == 0.25 and found.alpha == pytest.approx(math.log(3))
    np.testing.assert_allclose(found.weights, np.array([2.5, 1.5, 1.5, 0.5]) / 1.5)


def test_the_error_is_over_the_samples_that_count() -> None:
    weights, apart, nobody = np.array([2.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0]), np.zeros(4, dtype=bool)
    for counts, error in (([1, 1, 1, 1], 0.25), ([0, 1, 1, 1], 0.5), ([0, 0, 1, 0], 0.0)):
        counted = np.array(counts, dtype=bool)
        found = boost(
            weights, apart, num_classes=2, not_raised=nobody, config=WeightsConfig(), rate=0.5, counts=counted
        )
        assert found.error == error


def test_the_rate_multiplies_the_step() -> None:
    found = step([1, 1, 1, 1], [1, 0, 0, 0], rate=0.5)
    assert found.alpha == pytest.approx(0.5 * math.log(3))
    np.testing.assert_allclose(found.weights[0] / found.weights[1], math.sqrt(3))


def test_adaboost_half_by_hand() -> None:
    found = step([1, 1, 1, 1], [1, 0, 0, 0], num_classes=5, alpha="adaboost_half", rate=1.0)
    assert found.alpha == pytest.approx(0.5 * math.log(3)), "the number of classes has no part in it"


def test_a_fixed_step_does_not_depend_on_the_error() -> None:
    for apart in ([1, 0, 0, 0], [1, 1, 1, 0], [0.5, 0, 0, 0]):
        found = step([1, 1, 1, 1], apart, alpha="fixed", rate=0.7)
        assert found.alpha == 0.7
        np.testing.assert_allclose(found.weights / found.weights[3], np.exp(0.7 * np.array(apart)))


def test_half_a_disagreement_is_half_a_step() -> None:
    found = step([1, 1, 1], [0.5, 1, 0], rate=1.0, num_classes=3)
    np.testing.assert_allclose(found.weights[0] / found.weights[2], math.exp(0.5 * found.alpha))
    np.testing.assert_allclose(found.weights[1] / found.weights[2], math.exp(found.alpha))


@pytest.mark.parametrize("alpha", ["samme", "adaboost_half", "fixed"])
@pytest.mark.parametrize("apart", [[0, 0, 0], [1, 1, 1]])
def test_equal_disagreement_changes_no_weight(alpha: Any, apart: list[float]) -> None:
    found = step([1.5, 1.0, 0.5], apart, alpha=alpha)
    np.testing.assert_allclose(found.weights, [1.5, 1.0, 0.5])
    assert found.error == apart[0]


def test_a_rate_of_zero_never_changes_a_weight() -> None:
    for alpha in ("samme", "adaboost_half", "fixed"):
        np.testing.assert_allclose(step([1.5, 0.5], [1, 0], alpha=alpha, rate=0.0).weights, [1.5, 0.5])


def test_the_step_without_an_error_is_bounded() -> None:
    assert step([1, 1], [0, 0], rate=1.0).alpha == pytest.approx(math.log(999))
    assert step([1, 1], [0, 0], rate=1.0, num_classes=5).alpha == pytest.approx(math.log(999))


@pytest.mark.parametrize("alpha", ["samme", "adaboost_half"])
@settings(deadline=None)
@given(error=st.floats(0.0, 1.0), num_classes=st.integers(2, 1000), rate=sizes(0.0, 10.0))
def test_alpha_is_bounded_and_never_negative(alpha: Any, error: float, num_classes: int, rate: float) -> None:
    found = step([1.0], [error], alpha=alpha, num_classes=num_classes, rate=rate)
    assert 0.0 <= found.alpha <= rate * math.log(999) + 1e-9


@pytest.mark.parametrize("num_classes", [2, 3, 20, 77, 150])
def test_a_step_does_not_grow_with_the_number_of_classes(num_classes: int) -> None:
    """Two fifths of 77 classes disagreed about once raised a sample tenfold in one epoch."""
    for share in (0.1, 0.42, 0.9):  # of what chance gives
        error = share * (1.0 - 1.0 / num_classes)
        assert step([1.0], [error], num_classes=num_classes).alpha == pytest.approx(0.5 * math.log(2.0 / share - 1.0))
    assert math.exp(step([1.0], [0.42], num_classes=num_classes).alpha) < 2.1
    assert step([1.0], [1.0 - 1.0 / num_classes], num_classes=num_classes).alpha < 0.01


def test_the_step_is_near_zero_when_the_error_is_worse_than_chance() -> None:
    for num_classes, apart in ((2, [1, 1, 1, 0]), (5, [1] * 9 + [0])):
        found = step([1.0] * len(apart), apart, num_classes=num_classes, rate=1.0)
        assert found.error > 1 - 1 / num_classes and 0.0 <= found.alpha < 0.01
    assert step([1.0] * 5, [1, 1, 1, 0, 0], num_classes=5, alpha="adaboost_half", rate=1.0).alpha == 0.0


@settings(deadline=None)
@given(st.lists(WEIGHTS, min_size=1, max_size=30), st.floats(0.0, 1.0), st.floats(1.0, 50.0))
def test_bounded_weights_are_one_factor_between_floor_and_ceiling(
    weights: list[float], floor: float, ceiling: float
) -> None:
    given_, found = np.array(weights), bounded_weights(np.array(weights), floor=floor, ceiling=ceiling)
    assert found.mean() == pytest.approx(1.0, rel=1e-9)
    assert found.min() >= floor and found.max() <= ceiling
    factors = np.log(np.maximum(found, 1e-320)) - np.log(given_)  # the factor, where no bound is reached
    inside = (found > floor) & (found < ceiling) & (found > 1e-290)
    least = np.where(found >= ceiling, factors, -np.inf).max(initial=-np.inf)
    most = np.where(found <= floor, factors, np.inf).min(initial=np.inf)
    if floor < ceiling:
        assert least <= most + 1e-9
        for factor in factors[inside]:
            assert max(least, factors[inside].max()) - 1e-9 <= factor <= most + 1e-9


def test_bounds_by_hand() -> None:
    np.testing.assert_allclose(bounded_weights(np.array([8.0, 1, 1]), floor=0.0, ceiling=2.0), [2, 0.5, 0.5])
    np.testing.assert_allclose(bounded_weights(np.array([2.0, 2, 2, 0.002]), floor=0.4, ceiling=9.0), [1.2] * 3 + [0.4])
    np.testing.assert_allclose(
        bounded_weights(np.array([100.0, 1, 1, 1e-9]), floor=0.5, ceiling=2.0), [2, 0.75, 0.75, 0.5]
    )
    np.testing.assert_allclose(bounded_weights(np.array([5.0, 0.1]), floor=0.0, ceiling=1.0), [1, 1])


@pytest.mark.parametrize("tiny", [1e-60, 1e-200, 1e-308, 0.0])
def test_weights_far_apart_have_a_mean_of_one(tiny: float) -> None:
    found = bounded_weights(np.array([tiny, 1.0, 1.0, 2.0]), floor=0.0, ceiling=10.0)
    np.testing.assert_allclose(found, [4 * tiny / 4, 1.0, 1.0, 2.0])


def test_weights_of_zero_take_the_mass_beyond_the_ceiling() -> None:
    np.testing.assert_allclose(bounded_weights(np.array([3.0, 0, 0, 0]), floor=0.0, ceiling=2.5), [2.5, 0.5, 0.5, 0.5])


def test_weights_stay_finite_after_many_large_steps() -> None:
    weights = np.ones(6)
    for _ in range(200):
        config = WeightsConfig(alpha="fixed", min_effective_share=0.0)
        apart, not_raised = np.array([1.0, 1, 0.5, 0, 0, 0]), np.zeros(6, dtype=bool)
        update = boost(weights, apart, num_classes=2, not_raised=not_raised, config=config, rate=10.0)
        weights = update.weights
    np.testing.assert_allclose(weights, [3, 3, 0, 0, 0, 0], atol=1e-12)


def nobody(count: int) -> NDArray[np.bool_]:
    return np.zeros(count, dtype=bool)


@settings(deadline=None)
@given(st.lists(st.floats(0.0, 100.0), min_size=2, max_size=30), st.floats(0.05, 1.0))
def test_softening_reaches_the_effective_share_exactly(weights: list[float], share: float) -> None:
    given_ = np.array(weights) + 1e-3
    given_ /= given_.mean()
    found = softened_weights(given_, min_effective_share=share, not_raised=nobody(len(given_)))
    if effective_share(given_) >= share:
        np.testing.assert_allclose(found, given_)
    else:
        assert effective_share(found) == pytest.approx(share, rel=1e-9)
    assert found.mean() == pytest.approx(1.0)
    assert (np.diff(found[np.argsort(given_)]) >= -1e-9).all(), "softening keeps the order"
    assert found.min() >= given_.min() - 1e-9 and found.max() <= given_.max() + 1e-9


def test_softening_by_hand() -> None:
    weights = np.array([3.4, 0.4, 0.4, 0.4, 0.4])  # mean 1, variance 1.44
    found = softened_weights(weights, min_effective_share=1 / 1.36, not_raised=nobody(5))  # variance 0.36: half the way
    np.testing.assert_allclose(found, [2.2, 0.7, 0.7, 0.7, 0.7])
    assert weights.tolist() == [3.4, 0.4, 0.4, 0.4, 0.4]
    assert softened_weights(weights, min_effective_share=0.0, not_raised=nobody(5)) is weights
    np.testing.assert_allclose(softened_weights(weights, min_effective_share=1.0, not_raised=nobody(5)), np.ones(5))


def test_softening_does_not_raise_weights_of_not_raised_samples() -> None:
    weights, not_raised = np.array([3.4, 0.4, 0.4, 0.4, 0.4]), np.array([0, 1, 0, 0, 0], dtype=bool)
    found = softened_weights(weights, min_effective_share=0.6, not_raised=not_raised)
    assert found[1] == 0.4 and found.mean() == pytest.approx(1.0)
    assert effective_share(found) == pytest.approx(0.6)
    assert len(set(found[2:].round(12))) == 1 and 0.4 < found[2] < 1.0
    lowered = softened_weights(weights, min_effective_share=0.6, not_raised=np.array([1, 0, 0, 0, 0], dtype=bool))
    np.testing.assert_allclose(lowered, softened_weights(weights, min_effective_share=0.6, not_raised=nobody(5)))


@st.composite
def revisions(draw: st.DrawFn) -> tuple[Array, Array, NDArray[np.bool_], int, WeightsConfig]:
    """Arguments of `boost`: weights within the bounds, disagreement, samples not to raise, settings."""
    count, numbers = draw(st.integers(2, 25)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    floor, ceiling = draw(sizes(0.0, 1.0)), draw(st.floats(1.0, 20.0))
    spread = draw(st.floats(0.0, 5.0))
    weights = bounded_weights(np.exp(spread * numbers.normal(size=count)), floor=floor, ceiling=ceiling)
    apart = numbers.random(count).round(draw(st.sampled_from([0, 9])))
    not_raised = numbers.random(count) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    config = WeightsConfig(
        alpha=draw(st.sampled_from(["samme", "adaboost_half", "fixed"])),
        rate=draw(sizes(0.0, 5.0)),
        floor=floor,
        ceiling=ceiling,
        min_effective_share=draw(sizes(0.0, 1.0)),
    )
    return weights, apart, not_raised, draw(st.integers(2, 7)), config


def rate_of(config: WeightsConfig) -> float:
    return config.step_size(is_held_out=False)


def test_the_step_size_depends_on_the_teacher_where_it_is_left_out() -> None:
    assert WeightsConfig().step_size(is_held_out=True) == 0.0
    assert WeightsConfig().step_size(is_held_out=False) == 0.5
    assert WeightsConfig(rate=0.25).step_size(is_held_out=True) == 0.25


@settings(deadline=None)
@given(revisions())
def test_weights_keep_mean_bounds_and_effective_share_after_a_step(
    drawn: tuple[Array, Array, NDArray[np.bool_], int, WeightsConfig],
) -> None:
    weights, apart, not_raised, num_classes, config = drawn
    found = boost(weights, apart, num_classes=num_classes, not_raised=not_raised, config=config, rate=rate_of(config))
    assert found.weights.mean() == pytest.approx(1.0, rel=1e-9)
    assert found.weights.min() >= config.floor - 1e-9 and found.weights.max() <= config.ceiling + 1e-9
    assert found.alpha >= 0.0 and found.effective_share == pytest.approx(effective_share(found.weights))
    assert (found.weights[not_raised] <= weights[not_raised] * (1 + 1e-9)).all(), "no weight of these samples is raised"
    if not not_raised.any():
        assert found.effective_share >= config.min_effective_share * (1 - 1e-9)


@settings(deadline=None)
@given(revisions(), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(
    drawn: tuple[Array, Array, NDArray[np.bool_], int, WeightsConfig], random: Any
) -> None:
    weights, apart, not_raised, num_classes, config = drawn
    order = np.array(random.sample(range(len(weights)), len(weights)))
    here = boost(weights, apart, num_classes=num_classes, not_raised=not_raised, config=config, rate=rate_of(config))
    there = boost(
        weights[order],
        apart[order],
        num_classes=num_classes,
        not_raised=not_raised[order],
        config=config,
        rate=rate_of(config),
    )
    np.testing.assert_allclose(there.weights, here.weights[order], rtol=1e-7, atol=1e-9)
    assert there.alpha == pytest.approx(here.alpha, rel=1e-9, abs=1e-9)


def test_boosting_does_not_change_its_arguments() -> None:
    weights, apart = np.array([1.5, 0.5, 1.0]), np.array([1.0, 0.0, 0.0])
    boost(weights, apart, num_classes=2, not_raised=nobody(3), config=WeightsConfig(), rate=5.0)
    assert weights.tolist() == [1.5, 0.5, 1.0] and apart.tolist() == [1.0, 0.0, 0.0]
