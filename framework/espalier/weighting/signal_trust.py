"""Signal trust: how much of the loss on the teacher's signal counts, by the teacher's skill and the label noise."""

from __future__ import annotations


def signal_trust(skill: float, *, noise: float, min_skill: float, full_at_noise: float) -> float:
    """0 to 1: the factor of the loss on a teacher's signal; the loss on labels takes the rest.

    Args:
        skill: what the teacher's predictions know of right labels (`espalier.weighting.skill`).
        noise: the share of wrong labels.
        min_skill: the trust is full from this skill, 0 below half of it, and linear in between.
        full_at_noise: the trust is full from this noise and linear below it; 0: it does not depend on the noise.
    """
    return skill_trust(skill, min_skill) * _ramp(noise, 0.0, full_at_noise)


def skill_trust(skill: float, min_skill: float) -> float:
    """0 to 1: the part of the signal trust that the skill decides."""
    return _ramp(skill, 0.5 * min_skill, min_skill)


def _ramp(value: float, none: float, full: float) -> float:
    return 1.0 if full <= none else min(1.0, max(0.0, (value - none) / (full - none)))
