"""What predictions say of the labels of a `correct` stage: label noise, and trust in each label and in the signal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.kinds.correct.kind import CorrectStage
from espalier.weighting.decision import Decision, decide
from espalier.weighting.label_trust import label_trust
from espalier.weighting.noise import LabelNoise, label_noise
from espalier.weighting.signal_trust import signal_trust, skill_trust
from espalier.weighting.skill import class_skill, skill_of_right

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What is known of the labels, and what follows from it.

    Attributes:
        noise: the share of wrong labels, given or estimated.
        decision: whether labels are corrected, and for which reason.
        label_trust: [N] by a cross-fitted teacher, for the whole stage; None without one.
        class_signal_trust: [N] 0 to 1, the part of the signal trust that depends on the sample's class.
    """

    noise: LabelNoise
    decision: Decision
    label_trust: Array | None
    class_signal_trust: Array


@dataclass(frozen=True)
class LabelJudge:
    """Derives evidence from predictions on N labelled samples.

    Attributes:
        targets: [N] int64 classes, or float64 values.
        counts: [N] bool, False for samples whose labels are excluded.
        is_held_out: whether the teacher's prediction on each sample comes from a model not trained on its label.
    """

    config: CorrectStage
    targets: NDArray[Any]
    counts: NDArray[np.bool_]
    is_held_out: bool

    @property
    def is_regression(self) -> bool:
        return bool(np.issubdtype(self.targets.dtype, np.floating))

    @property
    def num_classes(self) -> int:
        """K; 2 for a regression."""
        return 2 if self.is_regression else int(self.targets.max()) + 1

    def noise(self, answers: Array | None) -> LabelNoise:
        """The label noise: as the job gives it, else estimated from predictions [N, C], else 0."""
        counts, num_classes = self.counts, 1 if self.is_regression else self.num_classes
        if self.config.distrust.noise is not None:
            return LabelNoise.given(self.config.distrust.noise, num_classes)
        if answers is None or not counts.any():
            return LabelNoise.given(0.0, num_classes)
        return label_noise(answers[counts], self.targets[counts])

    def evidence(self, noise: LabelNoise, teacher: Array | None) -> Evidence:
        """What follows from the noise and the teacher's predictions [N, C]."""
        decision = self._decision(noise, teacher)
        return Evidence(noise, decision, self._label_trust(noise, teacher), self._class_signal_trust(noise, teacher))

    def signal_trust(self, signal: Array | None, evidence: Evidence) -> float:
        """0 to 1: the factor of the loss on a signal [N, C]; 0 without one."""
        if signal is None:
            return 0.0
        settings = self.config.signal
        if settings.weight == 1.0 or not self.counts.any():  # no loss on labels could take its place
            return 1.0
        trust = signal_trust(
            self._skill(signal, evidence.noise),
            noise=evidence.decision.noise,
            min_skill=settings.min_skill,
            full_at_noise=settings.full_at(is_held_out=self.is_held_out),
        )
        return 0.5 * trust if self.is_held_out and self.is_regression else trust

    def _decision(self, noise: LabelNoise, teacher: Array | None) -> Decision:
        """Decide by the evidence of a cross-fitted teacher; with another one, or a given noise, do as the job says."""
        if self.config.distrust.noise is not None or not self.is_held_out:
            return Decision(noise.low, "labels are corrected: the job says how")
        return decide(
            noise,
            skill=self._skill(teacher, noise),
            min_noise=self.config.distrust.min_noise,
            min_skill=self.config.signal.min_skill,
        )

    def _skill(self, answers: Array | None, noise: LabelNoise) -> float:
        counts = self.counts
        if answers is None or not counts.any():
            return 0.0
        return skill_of_right(answers[counts], self.targets[counts], noise)

    def _label_trust(self, noise: LabelNoise, teacher: Array | None) -> Array | None:
        """[N] from a cross-fitted teacher alone: the student's own confidence grows in whatever labels it is taught."""
        if teacher is None or not self.is_held_out or self.config.distrust.noise is not None:
            return None
        trust, counts = np.ones(len(self.targets)), self.counts
        if counts.any():
            trust[counts] = label_trust(teacher[counts], self.targets[counts], noise)
        return trust

    def _class_signal_trust(self, noise: LabelNoise, teacher: Array | None) -> Array:
        """[N] 0 to 1: low for samples of classes that a cross-fitted teacher has not learnt; else 1."""
        ones = np.ones(len(self.targets))
        if teacher is None or not self.is_held_out or self.is_regression or not self.counts.any():
            return ones
        counts, min_skill = self.counts, self.config.signal.min_skill
        skills = class_skill(teacher[counts], self.targets[counts], noise)
        of_class = np.array([skill_trust(skill, min_skill) for skill in skills])
        return np.where(counts, of_class[self.targets], 1.0)
