"""Results that are NaN or infinite are an error, and never recorded as numbers."""

from __future__ import annotations

import math


class NotFinite(ValueError):
    """A model's outputs, or a metric of them, are NaN or infinite. A retry would give the same."""


def exp(value: float) -> float:
    """exp(value), or infinity on overflow."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def or_none(value: float) -> float | None:
    """The value for JSON: None if it is not finite."""
    return value if math.isfinite(value) else None
