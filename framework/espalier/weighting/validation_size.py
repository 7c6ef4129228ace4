"""Whether a validation set is large enough to decide between two models that were measured on it."""

from __future__ import annotations

import math

from espalier.weighting.decision import Decision

_BOUND = 1.645  # one-sided 95 % of a normal distribution


def smallest_difference(num_samples: int, *, disagreement: float) -> float:
    """The difference of two accuracies on the same samples that is more than chance: 0 to 1.

    A difference of shares of right answers has the standard error sqrt(d / N), where d is the share of samples on which
    exactly one of the two is right (McNemar 1947, Psychometrika 12).

    Args:
        disagreement: d; where it is not measured yet, 0.1 is usual for one model trained in two ways.
    """
    return _BOUND * math.sqrt(disagreement / num_samples) if num_samples else 1.0


def undecidable(num_samples: int, *, disagreement: float = 0.1, wanted: float = 0.05) -> Decision | None:
    """The decision to correct nothing, where validation samples are too few to decide; None where they are enough.

    Args:
        num_samples: N, of the validation set.
        wanted: the difference of accuracies that has to be told from chance.
    """
    least = smallest_difference(num_samples, disagreement=disagreement)
    if least <= wanted:
        return None
    needed = math.ceil(disagreement * (_BOUND / wanted) ** 2)
    reason = (
        f"{num_samples} validation samples are too few to decide on: a difference of {least:.1%} may be chance there"
    )
    return Decision(0.0, f"nothing is corrected: {reason}, and {needed} would tell {wanted:.0%}")
