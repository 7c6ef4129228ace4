"""Metrics of classification and regression, computed by scikit-learn and scipy."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from espalier.config.labelled import SMALLER_IS_BETTER, Metric
from espalier.evaluation.finite import NotFinite

Array = NDArray[np.float64]
Targets = NDArray[np.int64] | Array


def measure(answers: Array, targets: Targets) -> dict[str, float]:
    """All metrics of a classification, or of a regression.

    Args:
        answers: [N, C] probabilities, or [N, 1] values.
        targets: [N] int64 classes, or float64 values.

    Returns:
        Of classes: accuracy, f1 (of class 1; two classes only), f1_macro, f1_weighted, matthews, loss (mean negative
        log-likelihood). Of values: pearson, spearman, r2, mse, mae, loss (the mse). What is not defined, such as a
        correlation with a constant, is 0.

    Raises:
        NotFinite: predictions that are not finite, or squared errors that overflow.
    """
    if bad := int((~np.isfinite(answers)).any(1).sum()):
        raise NotFinite(
            f"the model answers NaN or infinity to {bad} of {len(answers)} samples; try a smaller optimizer.lr"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metrics that are not defined: they become 0 below
        if answers.shape[1] > 1:
            found = _of_classes(answers, targets.astype(np.int64, copy=False))
        else:
            found = _of_values(answers[:, 0], targets.astype(np.float64, copy=False))
    if large := [name for name in SMALLER_IS_BETTER if not np.isfinite(found.get(name, 0.0))]:
        raise NotFinite(f"the {large[0]} of the answers is {found[large[0]]}; scale the label column down")
    return {name: value if np.isfinite(value) else 0.0 for name, value in found.items()}


def confusion(answers: Array, targets: Targets) -> list[list[int]]:
    """Number of samples by label (rows) and by most probable class (columns).

    Args:
        answers: [N, C] probabilities.
        targets: [N] int64.
    """
    from sklearn import metrics

    counts: list[list[int]] = metrics.confusion_matrix(
        targets, answers.argmax(1), labels=range(answers.shape[1])
    ).tolist()
    return counts


def is_better(metric: Metric, value: float, than: float) -> bool:
    """Whether a value of a metric is strictly better than another."""
    return value < than if metric in SMALLER_IS_BETTER else value > than


def _of_classes(answers: Array, targets: NDArray[np.int64]) -> dict[str, float]:
    from sklearn import metrics

    found, classes = answers.argmax(1), range(answers.shape[1])
    chosen = np.take_along_axis(answers, targets[:, None], axis=1)
    two: dict[str, float] = {}
    if answers.shape[1] == 2:
        two["f1"] = float(metrics.f1_score(targets, found, zero_division=0.0))
    return {
        "accuracy": float(metrics.accuracy_score(targets, found)),
        **two,
        "f1_macro": float(metrics.f1_score(targets, found, average="macro", labels=classes, zero_division=0.0)),
        "f1_weighted": float(metrics.f1_score(targets, found, average="weighted", zero_division=0.0)),
        "matthews": float(metrics.matthews_corrcoef(targets, found)),
        "loss": float(-np.log(np.clip(chosen, 1e-12, 1.0)).mean()),
    }


def _of_values(found: Array, targets: Array) -> dict[str, float]:
    from scipy import stats
    from sklearn import metrics

    mse = float(metrics.mean_squared_error(targets, found))
    return {
        "pearson": float(stats.pearsonr(targets, found).statistic) if len(targets) > 1 else 0.0,
        "spearman": float(stats.spearmanr(targets, found).statistic) if len(targets) > 1 else 0.0,
        "r2": float(metrics.r2_score(targets, found)) if len(targets) > 1 else 0.0,
        "mse": mse,
        "mae": float(metrics.mean_absolute_error(targets, found)),
        "loss": mse,
    }
