from typing import get_args

import pytest

from espalier.config.labelled import Metric
from espalier.report.metrics import METRIC_WORDS, change_text, metric_names, metric_text


def test_every_metric_has_a_word():
    assert set(METRIC_WORDS) == set(get_args(Metric))
    assert len(set(METRIC_WORDS.values())) == len(METRIC_WORDS)


def test_the_watched_metric_comes_first_and_missing_ones_are_left_out():
    measured = {"loss": 1.0, "parameters": 7, "confusion": [[1]], "matthews": 0.5, "accuracy": 0.5}
    assert metric_names(measured, "matthews") == ("matthews", "accuracy", "loss")
    assert metric_names(measured, "f1") == ("accuracy", "matthews", "loss")


@pytest.mark.parametrize(
    ("name", "value", "base", "text", "change"),
    [
        ("accuracy", 0.8125, 0.75, "81.2 %", "+6.2 points"),
        ("f1_macro", 0.5, 0.75, "50.0 %", "−25.0 points"),  # noqa: RUF001
        ("matthews", 0.125, -0.25, "0.125", "+0.375"),
        ("r2", -1.5, -1.5, "-1.500", "0.000"),
        ("mse", 0.0123, 0.0246, "0.0123", "−50 %"),  # noqa: RUF001
        ("loss", 0.25, 0.0, "0.25", "+0.250"),
    ],
)
def test_values_and_changes_in_the_metrics_own_measure(name, value, base, text, change):
    assert metric_text(name, value) == text
    assert change_text(name, value, base) == change
