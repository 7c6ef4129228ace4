"""Figures that are no numbers: said, never recorded."""

from __future__ import annotations

import math


class NotFinite(ValueError):
    """A model answers NaN or infinity, or a measure of its answers does. The same model does so again."""


def exp(value: float) -> float:
    """e to a power; infinity where no float holds it."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def or_none(value: float) -> float | None:
    """What JSON can say of a number: null where it is not finite."""
    return value if math.isfinite(value) else None
