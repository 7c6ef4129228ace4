"""Which labels predictions speak against, what they suggest instead, and a sentence of why for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Witness = Literal["fold models", "teacher", "student"]
"""Whose predictions they are."""

_WORDS: dict[Witness, str] = {
    "fold models": "fold models that never saw this label answer",
    "teacher": "the teacher answers",
    "student": "the student itself answers",
}
_DEVIATIONS = 1.4826  # the median distance of a normal distribution times this is its standard deviation
_FAR = 3.0  # standard deviations


@dataclass(frozen=True)
class ConfusedPair:
    """Samples of one label whose likeliest class is a certain other one; `probability` is the mean of that answer."""

    given: int
    answered: int
    num_samples: int
    probability: float


@dataclass(frozen=True)
class Suspicion:
    """What predictions say of N labels.

    Attributes:
        answers: [N, K] probabilities, or [N, 1] values.
        targets: [N] int64 classes, or float64 values.
        names: of the K classes; empty for a regression.
    """

    answers: Array
    targets: NDArray[Any]
    names: Sequence[str]
    witness: Witness

    @property
    def has_classes(self) -> bool:
        return self.answers.shape[1] > 1

    @cached_property
    def doubted(self) -> NDArray[np.bool_]:
        """[N] whether the predictions speak against the label by more than they usually do.

        For classes the rule of confident learning (Northcutt, Jiang and Chuang 2021, JAIR 70): another class is more
        probable than the label, and at least as probable as it is on average where it is the label. So neither the
        number of classes nor the models' calibration moves it. For values the residual is beyond three standard
        deviations, estimated from the median, which outliers do not move.
        """
        if not self.has_classes:
            return self._distance > _FAR * self.spread if self.spread > 0 else np.zeros(len(self.targets), dtype=bool)
        own = np.take_along_axis(self.answers, self.targets[:, None], axis=1)
        count = np.bincount(self.targets, minlength=self.answers.shape[1])
        usual = np.bincount(self.targets, weights=own[:, 0], minlength=len(count)) / np.maximum(count, 1)
        usual = np.where(count > 0, usual, np.inf)
        speaks_against: NDArray[np.bool_] = (self.answers >= usual) & (self.answers > own)
        return np.any(speaks_against, axis=1)

    @cached_property
    def share_of_class(self) -> Array:
        """[K] the doubted share of the samples of each class; 0 for a class without samples."""
        count = np.bincount(self.targets, minlength=self.answers.shape[1])
        return np.bincount(self.targets, weights=self.doubted, minlength=len(count)) / np.maximum(count, 1)

    def confused(self, most: int) -> list[ConfusedPair]:
        """The most frequent pairs of a label and another class that is answered; none for a regression."""
        if not self.has_classes:
            return []
        said, width = self.answers.argmax(axis=1), self.answers.shape[1]
        pairs = (self.targets * width + said)[said != self.targets]
        sure = self.answers.max(axis=1)[said != self.targets]
        found, place, count = np.unique(pairs, return_inverse=True, return_counts=True)
        mean = np.bincount(place, weights=sure, minlength=len(found)) / np.maximum(count, 1)
        order = np.argsort(-count, kind="stable")[:most]
        return [
            ConfusedPair(int(found[i] // width), int(found[i] % width), int(count[i]), float(mean[i])) for i in order
        ]

    @cached_property
    def spread(self) -> float:
        """Of a regression: the standard deviation of most residuals."""
        return _DEVIATIONS * float(np.median(self._distance))

    def given(self, sample: int) -> str:
        """The label, as people write it."""
        return self._word(self.targets[sample])

    def answered(self, sample: int) -> str:
        """The likeliest class, or the value."""
        return self._word(self.answers[sample].argmax() if self.has_classes else self.answers[sample, 0])

    def suggested(self, sample: int) -> str:
        """What to put in the label's place; empty where the predictions give the label itself."""
        answer = self.answered(sample)
        return "" if self.has_classes and answer == self.given(sample) else answer

    def probability(self, sample: int) -> str:
        """Of the answer; empty for a value, which has none."""
        return f"{self.answers[sample].max():.4f}" if self.has_classes else ""

    def why(self, sample: int) -> str:
        """One sentence: what is answered, how surely, and how common doubt is among labels like this one."""
        begin, answer, given = _WORDS[self.witness], self.answered(sample), self.given(sample)
        if not self.has_classes:
            distance = f"{self._distance[sample]:.4g} from the label"
            return f"{begin} {answer}, {distance}; residuals have a standard deviation of {self.spread:.3g}"
        share = f"{self.share_of_class[self.targets[sample]]:.0%} of the samples labelled `{given}` are doubted"
        if answer == given:
            return f"{begin} the label itself, with no more than {self.answers[sample].max():.2f}; {share}"
        return f"{begin} `{answer}` with {self.answers[sample].max():.2f}; {share}"

    @cached_property
    def _distance(self) -> Array:
        return np.abs(self.answers[:, 0] - self.targets.astype(np.float64))

    def _word(self, answer: Any) -> str:
        return self.names[int(answer)] if self.has_classes else f"{float(answer):.6g}"
