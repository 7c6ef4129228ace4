"""Handling of NaN and infinity in measurements."""

from __future__ import annotations

import math


class NotFinite(ValueError):
    """A prediction or a metric is NaN or infinite. Trying again gives the same, so it is not retried."""


def exp(value: float) -> float:
    """exp(value), or infinity on overflow."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def or_none(value: float) -> float | None:
    """The value for JSON: None if it is not finite."""
    return value if math.isfinite(value) else None
