"""The share of the loss gap between a pruned and the unpruned model that a trained model has closed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from espalier.stages.result import Measurements

LEAST_GAP_NATS = 1e-3
"""The smallest gap of which a share is reported: below it (0.1 % of the perplexity) the share is noise."""


def gap_closed(nll: Mapping[str, float], *, model: str, pruned: Collection[str]) -> float | None:
    """The share of the loss gap that `model` has closed: 1 equals the unpruned model, 0 the pruned one, below 0 worse.

    Args:
        nll: model name -> mean negative log-likelihood, nats per token.
        pruned: names of the models that a prune stage made.

    Returns:
        (pruned - model) / (pruned - unpruned); None without one of each, or when the gap is below LEAST_GAP_NATS.
    """
    others = {name: value for name, value in nll.items() if name != model}
    cut = [value for name, value in others.items() if name in pruned]
    whole = [value for name, value in others.items() if name not in pruned]
    if not cut or not whole or not max(cut) - min(whole) >= LEAST_GAP_NATS:
        return None
    closed = (max(cut) - nll[model]) / (max(cut) - min(whole))
    return closed if math.isfinite(closed) else None


def told_gap(measured: Measurements) -> float | None:
    """The `gap_closed` of an evaluation; None when the gap is too small for it to mean anything."""
    closed, models = measured.gap_closed, measured.models
    if not isinstance(closed, int | float) or not math.isfinite(closed):
        return None
    losses = [model["nll"] for name, model in models.items() if name != measured.model and "nll" in model]
    return None if losses and max(losses) - min(losses) < LEAST_GAP_NATS else closed


def gap_words(closed: float) -> str:
    """`closed 77 % of the gap`, or `widened by 5 % the gap` for a negative share."""
    return f"closed {100 * closed:.0f} % of the gap" if closed >= 0 else f"widened by {-100 * closed:.0f} % the gap"
