"""Decimal arithmetic for shares and multiples of counts, without the rounding errors of binary floats."""

from __future__ import annotations

import math
from fractions import Fraction


def as_written(value: float) -> Fraction:
    """The decimal number that a person wrote, as a fraction: 1.1 is 11/10, while the float is slightly larger.

    It is the shortest decimal that is read as this float.
    """
    return Fraction(repr(value))


def rounded_part(share: float, count: int) -> int:
    """share * count, rounded to the nearest whole number; halves to even."""
    return round(as_written(share) * count)


def multiple_rounded_up(factor: float, count: int, *, per: int) -> int:
    """factor * count / per, rounded up."""
    return math.ceil(as_written(factor) * count / per)


def product(one: float, other: float) -> float:
    """The float nearest to the decimal product: 0.1 * 3 is 0.3."""
    return float(as_written(one) * as_written(other))
