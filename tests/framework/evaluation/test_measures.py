"""Metrics by hand, against the libraries, and where they are not defined."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from espalier.config.labelled import OF_CLASSES, OF_NUMBERS
from espalier.evaluation.finite import NotFinite
from espalier.evaluation.metrics import confusion, is_better, measure


def certain(found: list[int], classes: int, *, sure: float = 0.8) -> np.ndarray:
    """Answers whose largest probability is that of `found`."""
    rest = (1.0 - sure) / (classes - 1)
    return np.where(np.arange(classes) == np.array(found)[:, None], sure, rest)


def test_two_classes_by_hand() -> None:
    targets, found = np.array([1, 1, 1, 0, 0]), [1, 1, 0, 1, 0]
    got = measure(certain(found, 2), targets)
    assert set(got) == set(OF_CLASSES)
    assert got["accuracy"] == 0.6 and got["f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert got["f1_macro"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert got["f1_weighted"] == pytest.approx((3 * 2 / 3 + 2 / 2) / 5)
    assert got["matthews"] == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))
    assert got["loss"] == pytest.approx(-(3 * np.log(0.8) + 2 * np.log(0.2)) / 5)
    assert confusion(certain(found, 2), targets) == [[1, 1], [1, 2]], "a row for each label"


def test_many_classes_are_what_scikit_learn_says() -> None:
    draw = np.random.default_rng(3)
    targets, answers = draw.integers(0, 4, 60), np.zeros((60, 5))
    answers[:, :4] = draw.dirichlet(np.ones(4), 60)  # class 4 is nobody's label and nobody's answer
    found, got = answers.argmax(1), measure(answers, targets)
    assert "f1" not in got
    assert got["accuracy"] == metrics.accuracy_score(targets, found)
    assert got["matthews"] == pytest.approx(metrics.matthews_corrcoef(targets, found))
    of_each = metrics.f1_score(targets, found, average=None, labels=range(5), zero_division=0)
    assert got["f1_macro"] == pytest.approx(of_each.mean())
    assert got["f1_weighted"] == pytest.approx(of_each @ np.bincount(targets, minlength=5) / 60)
    assert got["loss"] == pytest.approx(metrics.log_loss(targets, answers, labels=range(5)))
    assert confusion(answers, targets) == metrics.confusion_matrix(targets, found, labels=range(5)).tolist()


def test_values_are_what_scipy_and_scikit_learn_say() -> None:
    draw = np.random.default_rng(4)
    targets = draw.normal(size=40)
    found = 0.5 * targets + draw.normal(size=40)
    got = measure(found[:, None], targets)
    assert set(got) == set(OF_NUMBERS)
    assert got["pearson"] == pytest.approx(stats.pearsonr(targets, found).statistic)
    assert got["spearman"] == pytest.approx(stats.spearmanr(targets, found).statistic)
    assert got["r2"] == pytest.approx(metrics.r2_score(targets, found)) and got["r2"] != got["pearson"]
    assert got["mse"] == got["loss"] == pytest.approx(((found - targets) ** 2).mean())
    assert got["mae"] == pytest.approx(np.abs(found - targets).mean())


def test_values_by_hand() -> None:
    got = measure(np.array([[1.0], [3.0], [2.0]]), np.array([1.0, 2.0, 3.0]))
    assert got["pearson"] == pytest.approx(0.5) and got["spearman"] == pytest.approx(0.5)
    assert (got["mse"], got["mae"], got["r2"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(0.0))


@pytest.mark.parametrize(
    ("found", "targets"), [([0, 0, 0], [0, 0, 0]), ([1, 1, 1], [0, 0, 0]), ([0, 0, 0], [0, 1, 1]), ([1], [1])]
)
@pytest.mark.parametrize("classes", [2, 3])
def test_classes_without_variety_give_numbers(found: list[int], targets: list[int], classes: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = measure(certain(found, classes), np.array(targets))
        counts = confusion(certain(found, classes), np.array(targets))
    assert got["accuracy"] == np.mean(np.array(found) == targets)
    assert got["matthews"] == 0.0
    assert all(np.isfinite(value) for value in got.values())
    assert np.array(counts).shape == (classes, classes)


@pytest.mark.parametrize(
    ("found", "targets"),
    [([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]), ([2.0], [1.0]), ([1.0, 1.0], [1.0, 1.0])],
)
def test_what_is_not_defined_of_values_is_zero(found: list[float], targets: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = measure(np.array(found)[:, None], np.array(targets))
    assert got["pearson"] == got["spearman"] == 0.0
    assert all(np.isfinite(value) for value in got.values())
    assert got["mse"] == np.mean((np.array(found) - targets) ** 2)


def test_a_sure_mistake_has_a_loss_without_being_infinite() -> None:
    got = measure(np.array([[1.0, 0.0]]), np.array([1]))
    assert got["loss"] == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("width", [1, 3])
def test_predictions_that_are_not_finite_are_refused(bad: float, width: int) -> None:
    """A loss of NaN that became 0 would be the best there is."""
    answers = np.full((4, width), 0.5)
    answers[2, 0] = bad
    with pytest.raises(ValueError, match=r"NaN or infinity to 1 of 4 samples; try a smaller optimizer\.lr"):
        measure(answers, np.array([0, 1, 0, 0]) if width > 1 else np.arange(4.0))


@pytest.mark.parametrize("metric", [*OF_CLASSES, *OF_NUMBERS])
def test_better_is_larger_but_for_losses_and_errors(metric: str) -> None:
    smaller = metric in ("loss", "mse", "mae")
    assert is_better(metric, 0.4, 0.5) is smaller and is_better(metric, 0.5, 0.4) is not smaller
    assert not is_better(metric, 0.5, 0.5)


def test_errors_that_overflow_are_refused() -> None:
    """An mse of infinity that became 0 would be."""
    with pytest.raises(NotFinite, match="the mse of the answers is inf; scale the label column down"):
        measure(np.full((4, 1), 0.5), np.array([1e300, 2e300, 3e300, -1e300]))
