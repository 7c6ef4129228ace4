"""How far the models believe the labels: the guard against wrong ones, and the list of suspects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from espalier.config.correction import DistrustConfig

Array = NDArray[np.float64]

_DEVIATIONS = 1.4826  # the median distance of a normal distribution times this is its standard deviation


def belief(answers: Array, targets: NDArray[np.generic]) -> Array:
    """[N] 0 to 1: the probability that answers [N, C] give the label.

    Of a regression: exp(-(d / 2s)^2 / 2), d the distance and s the typical one, 1.4826 times the median over all
    samples, which far-off labels do not move: an answer five typical distances off is hardly believed.
    """
    if answers.shape[1] > 1:
        return np.take_along_axis(answers, targets[:, None].astype(np.int64), axis=1)[:, 0]
    distance = answers[:, 0] - targets
    spread = _spread(distance)
    return np.exp(-0.5 * (distance / (2.0 * spread)) ** 2) if spread > 0 else np.ones(len(distance))


def _spread(distance: Array) -> float:
    """The standard deviation of most distances; that of all where more than half are 0."""
    return _DEVIATIONS * float(np.median(np.abs(distance))) or float(np.sqrt((distance**2).mean()))


def trust(believed: Array, *, noise: float, num_classes: int) -> Array:
    """[N] 0 to 1: the probability that a label is right, by Bayes.

    Args:
        believed: [N] the probability that the models give it.
        noise: the share of labels that are wrong, each as likely turned into any of the other classes.
        num_classes: K; 2 for a regression.
    """
    right = (1.0 - noise) * believed
    wrong = noise * (1.0 - believed) / (num_classes - 1)
    total = right + wrong
    return np.divide(right, total, out=np.ones_like(total), where=total > 0)


@dataclass(frozen=True)
class Beliefs:
    """What is remembered of each sample's label.

    Attributes:
        teacher: [N] the teacher's belief; None without one.
        student_sum: [N] the student's, summed over the ends of epochs.
        num_epochs: how many.
        streak: [N] epochs in a row in which teacher and student both contradicted the label.
    """

    teacher: Array | None
    student_sum: Array
    num_epochs: int
    streak: NDArray[np.int64]

    @staticmethod
    def at_start(teacher: Array | None, num_samples: int) -> Beliefs:
        return Beliefs(teacher, np.zeros(num_samples), 0, np.zeros(num_samples, dtype=np.int64))

    def after(self, student: Array, contradicted: NDArray[np.bool_]) -> Beliefs:
        """One epoch later.

        Args:
            student: [N] its belief in the labels.
            contradicted: [N] whether teacher and student both answer something else.
        """
        streak = np.where(contradicted, self.streak + 1, 0)
        return Beliefs(self.teacher, self.student_sum + student, self.num_epochs + 1, streak)

    @property
    def overall(self) -> Array:
        """[N] the mean of the teacher's belief and of the student's over the epochs; 1 while nobody was asked."""
        parts = [] if self.teacher is None else [self.teacher]
        if self.num_epochs:
            parts.append(self.student_sum / self.num_epochs)
        return np.mean(parts, axis=0) if parts else np.ones_like(self.student_sum)

    def held(self, config: DistrustConfig) -> NDArray[np.bool_]:
        """[N] labels that were contradicted for so long that nothing raises them any more."""
        return (self.streak >= config.epochs) & (config.rule != "none")
