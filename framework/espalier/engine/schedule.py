"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from espalier.config.training import OptimizerConfig


def learning_rate(config: OptimizerConfig, *, step: int, num_steps: int) -> float:
    """The rate of one update.

    Warm-up is linear over `warmup * num_steps` updates; the rest goes from `lr` to `final_lr_ratio * lr`: along half
    a cosine, a line, not at all (`constant`), or only within the last `decay * num_steps` updates (`wsd`, linear).

    Args:
        step: 0 for the first update.
    """
    warmup_steps = round(config.warmup * num_steps)
    if step < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    if config.schedule == "constant":
        return config.lr
    start = warmup_steps
    if config.schedule == "wsd":
        start = max(start, num_steps - round(config.decay * num_steps))
    progress = min(1.0, max(0.0, (step - start) / max(1, num_steps - start)))
    fall = 0.5 * (1 - math.cos(math.pi * progress)) if config.schedule == "cosine" else progress
    return config.lr * (1 - (1 - config.final_lr_ratio) * fall)
