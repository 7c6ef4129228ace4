"""The state of a `correct` stage over labelled data: sample weights, label confidence and the signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.data.labelled_sequences import LabelledSequences, Reweighted
from espalier.evaluation.answers import as_logits, probabilities
from espalier.kinds.correct.evidence import LabelJudge
from espalier.kinds.correct.kind import CorrectStage
from espalier.teachers.answers import Answers
from espalier.tracking.samples import SampleTable, coarse
from espalier.weighting.boosting import boost, effective_share
from espalier.weighting.decision import Decision
from espalier.weighting.disagreement import agreement, as_answers, disagreement
from espalier.weighting.label_confidence import ConfidenceHistory, label_confidence
from espalier.weighting.label_trust import trust_of_confidence
from espalier.weighting.noise import LabelNoise
from espalier.weighting.suspicion import Suspicion

Array = NDArray[np.float64]

_NOISE = ("share", "low", "high", "separation", "freedom")
_CONFIDENCE_TABLE = "student_belief"  # the table's name in the checkpoints of all versions


@dataclass(frozen=True)
class Revision:
    """What came of the revision at the end of an epoch.

    Attributes:
        figures: alpha, error, effective_share and the like, under the names that records have.
        table: a row for each sample.
    """

    figures: dict[str, float]
    table: SampleTable


class Correction:
    """Sample weights, label confidence and the signal of N labelled samples. The same on every worker.

    Attributes:
        sequences: the training samples with their current weights.
        source: the current signal: the soft targets that the student learns from beside the labels.
    """

    def __init__(
        self,
        config: CorrectStage,
        samples: LabelledSequences,
        *,
        num_revisions: int,
        weights: Array,
        teacher: Array | None,
        is_held_out: bool = False,
        excluded: NDArray[np.bool_],
    ) -> None:
        """Set up the first epoch.

        Args:
            num_revisions: number of revisions until the end of the stage.
            weights: [N] boosting weights to begin with.
            teacher: [N, C] the teacher's predictions; None without a teacher.
            is_held_out: whether each of these comes from a model that was not trained on the sample's label.
            excluded: [N] samples whose labels do not count.
        """
        self._config, self._num_revisions, self._counts = config, num_revisions, ~excluded
        self._targets = samples.examples.targets
        self._judge = LabelJudge(config, self._targets, self._counts, is_held_out)
        self._own_weights = samples.examples.weights
        self._weights, self._teacher = weights, teacher
        self._past: Array | None = None
        self._history = ConfidenceHistory.at_start(self._teacher_confidence(), len(samples))
        self._epoch, self._signal_trust = 0, 0.0
        self._evidence = self._judge.evidence(self._judge.noise(teacher), teacher)
        self.sequences = Reweighted(samples, weights, weights)
        self.source = Answers(torch.zeros(len(samples), 1))
        self._apply()

    def tables(self) -> dict[str, Tensor]:
        """What resuming needs, whole."""
        noise = self._evidence.noise
        tables = {
            "weights": self._weights,
            _CONFIDENCE_TABLE: self._history.student_sum,
            "streak": self._history.streak.astype(np.float64),
            "epoch": np.array([self._epoch], dtype=np.float64),
            "noise": np.array([getattr(noise, name) for name in _NOISE]),
            "noise_of_class": noise.of_class,
            "teacher": self._teacher,
            "past": self._past,
        }
        return {name: torch.from_numpy(table) for name, table in tables.items() if table is not None}

    def restore(self, tables: dict[str, Tensor]) -> None:
        """Take over the state that `tables` returned."""
        arrays = {name: table.numpy() for name, table in tables.items()}
        self._weights, self._epoch = arrays["weights"], int(arrays["epoch"][0])
        self._teacher, self._past = arrays.get("teacher"), arrays.get("past")
        numbers = dict(zip(_NOISE, arrays["noise"].tolist(), strict=True))
        noise = LabelNoise(**numbers, of_class=arrays["noise_of_class"])
        self._evidence = self._judge.evidence(noise, self._teacher)
        streak = arrays["streak"].astype(np.int64)
        confidence = self._teacher_confidence()
        self._history = ConfidenceHistory(confidence, arrays[_CONFIDENCE_TABLE], self._epoch, streak)
        self._apply()

    def revise(self, student_logits: Tensor) -> Revision:
        """Revise weights, confidence and signal at the end of an epoch.

        Args:
            student_logits: [N, C] the student's predictions on all samples.
        """
        student, signal = probabilities(student_logits), self._signal()
        tolerance = self._config.weights.tolerance
        labels = as_answers(self._targets, student.shape[1])
        agrees = agreement(student, labels if signal is None else signal, tolerance=tolerance)
        contradicted = ~agreement(student, labels, tolerance=tolerance)
        if self._teacher is None:
            self._evidence = self._judge.evidence(self._judge.noise(student), None)
        else:
            contradicted &= ~agreement(self._teacher, labels, tolerance=tolerance)
        self._history = self._history.after(label_confidence(student, self._targets), contradicted)
        figures = {"agreement": float(agrees.mean()), "alpha": 0.0, "error": 0.0}
        if self._counts.any() and (signal is not None or self._config.weights.disagreement == "label"):
            figures |= self._boost(student, signal)
        momentum, past = self._config.signal.momentum, self._past
        self._past = student if past is None or momentum == 0.0 else momentum * past + (1.0 - momentum) * student
        self._epoch += 1
        self._apply()
        return Revision(figures | self._figures(), self._table(student, agrees))

    @property
    def decision(self) -> Decision:
        """Whether labels are corrected, and for which reason."""
        return self._evidence.decision

    def suspicion(self, names: Sequence[str]) -> Suspicion:
        """What the teacher, or without one the student, says of the labels, after the first revision."""
        answers = self._past if self._teacher is None else self._teacher
        assert answers is not None
        if self._teacher is None:
            return Suspicion(answers, self._targets, names, "student")
        return Suspicion(answers, self._targets, names, "fold models" if self._judge.is_held_out else "teacher")

    @property
    def noise_of_class(self) -> Array:
        """[K] the share of wrong labels to assume in each class."""
        return self._evidence.noise.of_class

    @property
    def doubt(self) -> Array:
        """[N] 0 to 1: one minus the mean label confidence of teacher and student."""
        return 1.0 - self._history.mean

    @property
    def suspects(self) -> NDArray[np.int64]:
        """[N] sample ids by descending doubt; samples whose labels are excluded come last."""
        return np.lexsort((-self.doubt, ~self._counts))

    @property
    def loss_weights(self) -> Array:
        """[N] the factor of each sample's loss on its label: its own weight (class balance included), boosting, trust.

        Where no loss on labels is weighed (`counts_in: signal`, or a signal of weight 1), of its loss on the signal.
        These are the numbers that batches carry.
        """
        of_signal = self._config.weights.counts_in == "signal" or self._config.signal.weight == 1.0
        return self._own_weights * (self.sequences.signal_weights if of_signal else self.sequences.label_weights)

    def _boost(self, student: Array, signal: Array | None) -> dict[str, float]:
        """Raise weights by disagreement, over the samples whose labels count; alpha, error and samples not raised."""
        counts, config = self._counts, self._config.weights
        apart = np.zeros(len(counts))
        other = None if signal is None else signal[counts]
        apart[counts] = disagreement(student[counts], other, self._targets[counts], config)
        contradicted = self._history.long_contradicted(self._config.distrust) & counts
        step = boost(
            self._weights,
            apart,
            num_classes=max(2, student.shape[1]),
            not_raised=contradicted | ~counts,
            config=config,
            rate=config.step_size(is_held_out=self._judge.is_held_out),
            counts=counts,
        )
        self._weights = step.weights
        return {"alpha": step.alpha, "error": step.error, "held": float(contradicted.sum())}

    def _teacher_confidence(self) -> Array | None:
        return None if self._teacher is None else label_confidence(self._teacher, self._targets)

    def _label_trust(self) -> Array:
        """[N] 0 to 1: the factor of the loss on each label that guards against wrong labels."""
        confidence, noise = self._history.mean, self._evidence.decision.noise
        if self._config.distrust.rule != "graded" or noise == 0.0:
            return np.ones_like(confidence)
        if self._evidence.label_trust is not None:
            return self._evidence.label_trust
        return trust_of_confidence(confidence, noise=noise, num_classes=self._judge.num_classes)

    def _signal(self) -> Array | None:
        """[N, C] the soft targets of this epoch: teacher and own past, mixed; None while there is neither."""
        start, end = self._config.signal.own_past
        share = start + (end - start) * min(1.0, self._epoch / max(self._num_revisions - 1.0, 1.0))
        if self._teacher is None:
            return self._past if max(start, end) > 0 else None
        if self._past is None or share == 0.0:
            return self._teacher
        return (1.0 - share) * self._teacher + share * self._past

    def _apply(self) -> None:
        """Set the weights and the signal of the next epoch's batches.

        Where the signal trust is below 1, the loss on the label takes the missing part: its factor grows accordingly.
        """
        signal, share, counts_in = self._signal(), self._config.signal.weight, self._config.weights.counts_in
        self._signal_trust = self._judge.signal_trust(signal, self._evidence)
        ones = np.ones_like(self._weights)
        by_class = self._evidence.class_signal_trust if share < 1.0 else ones
        trust = self._signal_trust * by_class
        missing_part = (1.0 - share * trust) / (1.0 - share) if share < 1.0 else ones
        of_labels = ones if counts_in == "signal" else self._weights
        self.sequences.label_weights = missing_part * (self._label_trust() * self._counts) * of_labels
        self.sequences.signal_weights = trust * (ones if counts_in == "label" else self._weights)
        self.source.logits = as_logits(self._uniform() if signal is None else signal)

    def _uniform(self) -> Array:
        """[N, C] predictions that stand in while there is no signal; their loss has the factor 0."""
        width = 1 if self._judge.is_regression else self._judge.num_classes
        return np.full((len(self._targets), width), 0.0 if self._judge.is_regression else 1.0 / width)

    def _figures(self) -> dict[str, float]:
        weights, trust = self.loss_weights, self._label_trust()[self._counts]
        noise = self._evidence.noise
        return {
            "effective_share": effective_share(weights) if weights.any() else 0.0,
            "largest_weight": float(weights.max()),
            "noise": noise.share,
            "noise_low": noise.low,
            "noise_high": noise.high,
            "noise_acting": self._evidence.decision.noise,
            "heard": self._signal_trust,
            "trust": float(trust.mean()) if len(trust) else 0.0,
        }

    def _table(self, student: Array, agrees: NDArray[np.bool_]) -> SampleTable:
        return SampleTable(
            weight=self.loss_weights.astype(np.float32),
            boost=coarse(self._weights),
            teacher=None if self._teacher is None else _prediction(self._teacher),
            student=_prediction(student),
            loss=_losses(student, self._targets).astype(np.float32),
            belief=self._history.mean.astype(np.float32),
            agrees=agrees,
        )


def _prediction(answers: Array) -> NDArray[np.float32] | NDArray[np.int16]:
    """[N] the value, or the likeliest class."""
    return answers[:, 0].astype(np.float32) if answers.shape[1] == 1 else answers.argmax(1).astype(np.int16)


def _losses(student: Array, targets: NDArray[Any]) -> Array:
    """[N] the squared error, or the cross-entropy."""
    if student.shape[1] == 1:
        return (student[:, 0] - targets) ** 2
    return -np.log(np.clip(np.take_along_axis(student, targets[:, None], axis=1)[:, 0], 1e-12, 1.0))
