"""Label confidence: the probability that models give to each sample's label, remembered over the epochs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from espalier.config.correction import DistrustConfig

Array = NDArray[np.float64]

_DEVIATIONS = 1.4826  # the median distance of a normal distribution times this is its standard deviation


def label_confidence(answers: Array, targets: NDArray[np.generic]) -> Array:
    """[N] 0 to 1: the probability that predictions give to the labels.

    For a regression exp(-(d / 2s)^2 / 2), where d is the distance of prediction and label and s is the typical
    distance: 1.4826 times the median over all samples, which outliers do not move.

    Args:
        answers: [N, C] probabilities, or [N, 1] values.
        targets: [N] int64 classes, or float64 values.
    """
    if answers.shape[1] > 1:
        return np.take_along_axis(answers, targets[:, None].astype(np.int64), axis=1)[:, 0]
    distance = answers[:, 0] - targets.astype(np.float64)
    spread = _spread(distance)
    return np.exp(-0.5 * (distance / (2.0 * spread)) ** 2) if spread > 0 else np.ones(len(distance))


def _spread(distance: Array) -> float:
    """The standard deviation of most distances; that of all where more than half are 0."""
    return _DEVIATIONS * float(np.median(np.abs(distance))) or float(np.sqrt((distance**2).mean()))


@dataclass(frozen=True)
class ConfidenceHistory:
    """The label confidences of teacher and student over the epochs so far.

    Attributes:
        teacher: [N] the teacher's label confidence; None without one.
        student_sum: [N] the student's label confidence, summed over the ends of epochs.
        num_epochs: number of epochs in that sum.
        streak: [N] consecutive epochs in which both teacher and student predicted something else than the label.
    """

    teacher: Array | None
    student_sum: Array
    num_epochs: int
    streak: NDArray[np.int64]

    @staticmethod
    def at_start(teacher: Array | None, num_samples: int) -> ConfidenceHistory:
        """The history before the first epoch."""
        return ConfidenceHistory(teacher, np.zeros(num_samples), 0, np.zeros(num_samples, dtype=np.int64))

    def after(self, student: Array, contradicted: NDArray[np.bool_]) -> ConfidenceHistory:
        """The history with one more epoch.

        Args:
            student: [N] the student's label confidence.
            contradicted: [N] whether teacher and student both predict something else than the label.
        """
        streak = np.where(contradicted, self.streak + 1, 0)
        return ConfidenceHistory(self.teacher, self.student_sum + student, self.num_epochs + 1, streak)

    @property
    def mean(self) -> Array:
        """[N] the mean of the teacher's confidence and of the student's epoch mean; 1 before any model was asked."""
        parts = [] if self.teacher is None else [self.teacher]
        if self.num_epochs:
            parts.append(self.student_sum / self.num_epochs)
        return np.mean(parts, axis=0) if parts else np.ones_like(self.student_sum)

    def long_contradicted(self, config: DistrustConfig) -> NDArray[np.bool_]:
        """[N] labels contradicted for so many epochs in a row that their weights are not raised any more."""
        return (self.streak >= config.epochs) & (config.rule != "none")
