"""Results that are NaN or infinite are an error, and never recorded as numbers."""

from __future__ import annotations

import math


class NotFinite(ValueError):
    """A model's outputs, or a metric of them, are NaN or infinite. A retry would give the same."""


def exp(value: float) -> float:
    """e to a power; infinity where no float holds it."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def or_none(value: float) -> float | None:
    """What JSON can say of a number: null where it is not finite."""
    return value if math.isfinite(value) else None
