"""Whether a `correct` stage corrects labels at all, decided before its first step from held-out predictions."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.weighting.noise import LabelNoise


@dataclass(frozen=True)
class Decision:
    """The decision and its reason.

    Attributes:
        noise: the share of wrong labels to assume; with 0 nothing is corrected, and the stage is plain fine-tuning.
        reason: a sentence with the evidence, for people.
    """

    noise: float
    reason: str


def decide(noise: LabelNoise, *, skill: float, min_noise: float, min_skill: float) -> Decision:
    """Assume the lower end of the estimated noise, or 0 if the evidence is too weak.

    Args:
        noise: estimated from held-out predictions.
        skill: of these predictions (`espalier.weighting.skill`).
        min_noise: nothing is corrected when the lower end of the noise is below it.
        min_skill: nothing is corrected when the skill is below half of it.
    """
    interval = f"{noise.low:.1%} to {noise.high:.1%}"
    found = f"{noise.share:.1%} of the labels look wrong to models that have not seen them ({interval})"
    if skill < 0.5 * min_skill:
        return Decision(0.0, f"nothing is corrected: those models know too little (skill {skill:.2f}) to judge labels")
    if noise.low < min_noise:
        return Decision(0.0, f"nothing is corrected: {found}, and that is not certainly {min_noise:.1%}")
    return Decision(noise.low, f"labels are corrected: {found}")
