"""Whether to correct at all, decided by what held-out answers show, before a step is taken."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.weighting.noise import LabelNoise


@dataclass(frozen=True)
class Decision:
    """What was decided, and why.

    Attributes:
        noise: the share of wrong labels that everything acts on; 0 corrects nothing, and the stage is plain training.
        reason: a sentence with the evidence.
    """

    noise: float
    reason: str


def decide(noise: LabelNoise, *, skill: float, min_noise: float, min_skill: float) -> Decision:
    """Correct as far as wrong labels are certain.

    Args:
        noise: as held-out answers show it.
        skill: what these answers know of right labels (`espalier.weighting.skill`).
        min_noise: nothing is corrected while the lower end of the noise is below it.
        min_skill: from which skill answers are heard in full; below half of it they show nothing.
    """
    interval = f"{noise.low:.1%} to {noise.high:.1%}"
    found = f"{noise.share:.1%} of the labels look wrong to models that have not seen them ({interval})"
    if skill < 0.5 * min_skill:
        return Decision(0.0, f"nothing is corrected: those models know too little (skill {skill:.2f}) to judge labels")
    if noise.low < min_noise:
        return Decision(0.0, f"nothing is corrected: {found}, and that is not certainly {min_noise:.1%}")
    return Decision(noise.low, f"labels are corrected: {found}")
