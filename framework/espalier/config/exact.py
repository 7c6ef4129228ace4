"""Counts from shares and multiples, without the rounding of binary floats."""

from __future__ import annotations

import math
from fractions import Fraction


def as_written(value: float) -> Fraction:
    """The decimal that a person wrote: 1.1 is 11/10, where the float is a little more than that.

    Of the decimals that are read as this float it is the shortest.
    """
    return Fraction(repr(value))


def rounded_part(share: float, count: int) -> int:
    """A share of a whole number, to the nearest whole number; halves go to the even one."""
    return round(as_written(share) * count)


def multiple_rounded_up(factor: float, count: int, *, per: int) -> int:
    """`factor` times `count`, divided by `per`: a part left over counts as one."""
    return math.ceil(as_written(factor) * count / per)


def product(one: float, other: float) -> float:
    """The float that is nearest to the product of two decimals: 0.1 * 3 is 0.3."""
    return float(as_written(one) * as_written(other))
