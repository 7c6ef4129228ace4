"""The learning rate as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from espalier.config.exact import as_written, rounded_part
from espalier.config.training import OptimizerConfig, SchedulePart


def learning_rate(config: OptimizerConfig, *, step: int, num_steps: int) -> float:
    """The rate of one update.

    Warm-up is linear over `warmup` of the schedule; the rest goes from `lr` to `final_lr_ratio * lr`: along half a
    cosine, a line, not at all (`constant`), or only within the last `decay` of the schedule (`wsd`, linear). A stage
    has the whole schedule, or the part of it that `part` says.

    Args:
        step: 0 for the first update.
        num_steps: of the stage.
    """
    part = config.part
    if part is None:
        return _scheduled(config, step=step, num_steps=num_steps)
    before, whole = steps_before(config, num_steps=num_steps), _whole(part, num_steps)
    rate = _scheduled(config, step=before + step, num_steps=whole)
    return rate * min(1.0, (step + 1) / max(1, rounded_part(part.rewarm, num_steps)))


def steps_before(config: OptimizerConfig, *, num_steps: int) -> int:
    """Steps of the schedule that come before a stage of `num_steps`: 0 where it has one of its own."""
    return 0 if config.part is None else rounded_part(config.part.start, _whole(config.part, num_steps))


def _whole(part: SchedulePart, num_steps: int) -> int:
    return round(num_steps / (as_written(part.end) - as_written(part.start)))


def _scheduled(config: OptimizerConfig, *, step: int, num_steps: int) -> float:
    warmup_steps = rounded_part(config.warmup, num_steps)
    if step < warmup_steps:
        return config.lr * (step + 1) / warmup_steps
    if config.schedule == "constant":
        return config.lr
    start = warmup_steps
    if config.schedule == "wsd":
        start = max(start, num_steps - rounded_part(config.decay, num_steps))
    progress = min(1.0, max(0.0, (step - start) / max(1, num_steps - start)))
    fall = 0.5 * (1 - math.cos(math.pi * progress)) if config.schedule == "cosine" else progress
    return config.lr * (1 - (1 - config.final_lr_ratio) * fall)
