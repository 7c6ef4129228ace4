"""Names and number formats of the metrics of labelled data, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.config.labelled import SMALLER_IS_BETTER
from espalier.report.changes import signed, signed_percent
from espalier.tracking.number_format import number_text

METRIC_WORDS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "f1_macro": "macro F1",
    "f1_weighted": "weighted F1",
    "matthews": "Matthews",
    "pearson": "Pearson",
    "spearman": "Spearman",
    "r2": "R²",
    "mse": "MSE",
    "mae": "MAE",
    "loss": "loss",
}
_SHARES = ("accuracy", "f1", "f1_macro", "f1_weighted")


def metric_names(measured: Mapping[str, Any], watched: str) -> tuple[str, ...]:
    """The metrics that `measured` has, the watched one first."""
    return tuple(sorted((name for name in METRIC_WORDS if name in measured), key=lambda name: name != watched))


def metric_text(name: str, value: float) -> str:
    """Format a metric: a share as `76.8 %`, a correlation as `0.417`, an error as `0.01234`."""
    if name in _SHARES:
        return f"{100 * value:.1f} %"
    return number_text(value) if name in SMALLER_IS_BETTER else f"{value:.3f}"


def change_text(name: str, value: float, base: float) -> str:
    """How `value` differs from `base`: points of a share, percent of an error, else the difference itself."""
    if name in _SHARES:
        return signed(100 * (value - base), lambda points: f"{points:.1f} points")
    if name in SMALLER_IS_BETTER and base:
        return signed_percent(value / base)
    return signed(value - base, lambda size: f"{size:.3f}")
