"""What a `correct` stage knows of its samples, and how it is revised at the end of each epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from espalier.data.labelled_sequences import LabelledSequences, Reweighted
from espalier.evaluation.answers import as_logits, probabilities
from espalier.kinds.correct.kind import CorrectStage
from espalier.teachers.answers import Answers
from espalier.tracking.samples import SampleTable, coarse
from espalier.weighting.belief import Beliefs, belief, trust
from espalier.weighting.decision import Decision, decide
from espalier.weighting.disagreement import agreement, as_answers, disagreement
from espalier.weighting.noise import LabelNoise, label_noise
from espalier.weighting.skill import class_skill, heard, heard_of, skill_of_right
from espalier.weighting.trusted import label_trust
from espalier.weighting.update import effective_share, revise

Array = NDArray[np.float64]

_NOISE = ("share", "low", "high", "separation", "freedom")


@dataclass(frozen=True)
class Revision:
    """The end of an epoch.

    Attributes:
        figures: alpha, error, effective_share and the like.
        table: the samples as they stand now.
    """

    figures: dict[str, float]
    table: SampleTable


class Correction:
    """Weights, beliefs and the signal of N labelled samples. The same on every worker.

    Attributes:
        sequences: the training samples under the weights that hold now.
        source: what the student hears beside the labels.
        decision: whether labels are corrected, and on which evidence.
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
        """Begin.

        Args:
            num_revisions: how often there will be one.
            weights: [N].
            teacher: [N, C] its answers.
            is_held_out: no sample was judged by a teacher that had seen its label.
            excluded: [N] whose labels do not count.
        """
        self._config, self._num_revisions, self._counts = config, num_revisions, ~excluded
        self._is_held_out = is_held_out
        self._targets: NDArray[Any] = samples.examples.targets
        self._weights, self._teacher, self._past = weights, teacher, None
        believed = None if teacher is None else belief(teacher, self._targets)
        self._beliefs = Beliefs.at_start(believed, len(samples))
        self._epoch, self._hears = 0, 0.0
        self._see(self._noise_in(teacher))
        self.sequences = Reweighted(samples, weights, weights)
        self.source = Answers(torch.zeros(len(samples), 1))
        self._apply()

    def tables(self) -> dict[str, Tensor]:
        """All that resuming needs, whole."""
        tables = {
            "weights": self._weights,
            "student_belief": self._beliefs.student_sum,
            "streak": self._beliefs.streak.astype(np.float64),
            "epoch": np.array([self._epoch], dtype=np.float64),
            "noise": np.array([getattr(self._seen, name) for name in _NOISE]),
            "noise_of_class": self._seen.of_class,
            "teacher": self._teacher,
            "past": self._past,
        }
        return {name: torch.from_numpy(table) for name, table in tables.items() if table is not None}

    def restore(self, tables: dict[str, Tensor]) -> None:
        """Go back to what `tables` once were."""
        arrays = {name: table.numpy() for name, table in tables.items()}
        self._weights, self._epoch = arrays["weights"], int(arrays["epoch"][0])
        self._teacher, self._past = arrays.get("teacher"), arrays.get("past")
        self._see(
            LabelNoise(**dict(zip(_NOISE, arrays["noise"].tolist(), strict=True)), of_class=arrays["noise_of_class"])
        )
        believed = None if self._teacher is None else belief(self._teacher, self._targets)
        streak = arrays["streak"].astype(np.int64)
        self._beliefs = Beliefs(believed, arrays["student_belief"], self._epoch, streak)
        self._apply()

    def revise(self, student_logits: Tensor) -> Revision:
        """Take in what the student answers at the end of an epoch.

        Args:
            student_logits: [N, C].
        """
        student, signal = probabilities(student_logits), self._signal()
        tolerance = self._config.weights.tolerance
        labels = as_answers(self._targets, student.shape[1])
        agrees = agreement(student, labels if signal is None else signal, tolerance=tolerance)
        contradicted = ~agreement(student, labels, tolerance=tolerance)
        if self._teacher is None:
            self._see(self._noise_in(student))
        else:
            contradicted &= ~agreement(self._teacher, labels, tolerance=tolerance)
        self._beliefs = self._beliefs.after(belief(student, self._targets), contradicted)
        figures = {"agreement": float(agrees.mean()), "alpha": 0.0, "error": 0.0}
        if self._counts.any() and (signal is not None or self._config.weights.disagreement == "label"):
            figures |= self._boost(student, signal)
        momentum = self._config.signal.momentum if self._past is not None else 0.0
        self._past = student if momentum == 0.0 else momentum * self._past + (1.0 - momentum) * student
        self._epoch += 1
        self._apply()
        return Revision(figures | self._figures(), self._table(student, agrees))

    def _boost(self, student: Array, signal: Array | None) -> dict[str, float]:
        """Raise what is disagreed about, labels that do not count left out; alpha and error of it."""
        counts, config = self._counts, self._config.weights
        apart = np.zeros(len(counts))
        heard = None if signal is None else signal[counts]
        apart[counts] = disagreement(student[counts], heard, self._targets[counts], config)
        held = self._beliefs.held(self._config.distrust) & counts
        update = revise(
            self._weights,
            apart,
            num_classes=max(2, student.shape[1]),
            held=held | ~counts,
            config=config,
            rate=config.step_size(is_held_out=self._is_held_out),
            counts=counts,
        )
        self._weights = update.weights
        return {"alpha": update.alpha, "error": update.error, "held": float(held.sum())}

    @property
    def doubt(self) -> Array:
        """[N] 0 to 1, how little the models have believed each label."""
        return 1.0 - self._beliefs.overall

    @property
    def suspects(self) -> NDArray[np.int64]:
        """[N] all samples, most doubted first; those whose labels do not count anyway come last."""
        return np.lexsort((-self.doubt, ~self._counts))

    @property
    def teacher(self) -> Array | None:
        """[N, C] the teacher's own answers."""
        return self._teacher

    @property
    def _counted(self) -> Array:
        """[N] the weights that are learnt: of the labels, trust and all, or of the signal where it alone is weighed."""
        return self._weights if self._config.weights.counts_in == "signal" else self._trusted * self._weights

    @property
    def _trusted(self) -> Array:
        return self._trust() * self._counts

    def _decide(self) -> Decision:
        """Whether a cross-fitted teacher's answers show that there is something to correct.

        Any other teacher, and a noise that was given, are what somebody asked for: they are acted on.
        """
        if self._config.distrust.noise is not None or not self._is_held_out:
            return Decision(self._seen.low, "labels are corrected: the job says how")
        return decide(
            self._seen,
            skill=self._skill(self._teacher),
            min_noise=self._config.distrust.min_noise,
            min_skill=self._config.signal.min_skill,
        )

    @property
    def _noise(self) -> float:
        """The share of wrong labels that acts."""
        return self.decision.noise

    def _noise_in(self, answers: Array | None) -> LabelNoise:
        """The noise of labels that count: as it was given, or as it shows in answers."""
        counts, num_classes = self._counts, 1 if self._is_regression else self._num_classes
        if self._config.distrust.noise is not None:
            return LabelNoise.given(self._config.distrust.noise, num_classes)
        if answers is None or not counts.any():
            return LabelNoise.given(0.0, num_classes)
        return label_noise(answers[counts], self._targets[counts])

    def _skill(self, answers: Array | None) -> float:
        counts = self._counts
        if answers is None or not counts.any():
            return 0.0
        return skill_of_right(answers[counts], self._targets[counts], self._seen)

    def _heard(self, answers: Array | None) -> float:
        """0 to 1: how far answers are heard."""
        if answers is None:
            return 0.0
        signal = self._config.signal
        if signal.weight == 1.0 or not self._counts.any():  # where labels do not count, they cannot take its place
            return 1.0
        found = heard(
            self._skill(answers),
            noise=self._noise,
            min_skill=signal.min_skill,
            full_at_noise=signal.full_at(is_held_out=self._is_held_out),
        )
        return 0.5 * found if self._is_held_out and self._is_regression else found

    def _heard_by_class(self) -> Array:
        """[N] 0 to 1: cross-fitted models that have not learnt a class teach nothing about samples with its label."""
        heard_by = np.ones(len(self._targets))
        if self._teacher is None or not self._is_held_out or self._is_regression or not self._counts.any():
            return heard_by
        counts, min_skill = self._counts, self._config.signal.min_skill
        known = class_skill(self._teacher[counts], self._targets[counts], self._seen)
        of_class = np.array([heard_of(value, min_skill) for value in known])
        return np.where(counts, of_class[self._targets], 1.0)

    def _trust(self) -> Array:
        """[N] 0 to 1, what the loss on each label is multiplied by."""
        believed = self._beliefs.overall
        if self._config.distrust.rule != "graded" or self._noise == 0.0:
            return np.ones_like(believed)
        if self._teacher_trust is not None:
            return self._teacher_trust
        return trust(believed, noise=self._noise, num_classes=self._num_classes)

    def _see(self, noise: LabelNoise) -> None:
        self._seen = noise
        self.decision = self._decide()
        self._teacher_trust = self._trust_of_teacher()
        self._teacher_classes = self._heard_by_class()

    def _trust_of_teacher(self) -> Array | None:
        """[N] of a cross-fitted teacher, for the whole stage: the student would come to believe what it is taught."""
        if self._teacher is None or not self._is_held_out or self._config.distrust.noise is not None:
            return None
        trusted, counts = np.ones(len(self._targets)), self._counts
        if counts.any():
            trusted[counts] = label_trust(self._teacher[counts], self._targets[counts], self._seen)
        return trusted

    @property
    def _num_classes(self) -> int:
        return 2 if self._is_regression else int(self._targets.max()) + 1

    @property
    def _is_regression(self) -> bool:
        return bool(np.issubdtype(self._targets.dtype, np.floating))

    def _figures(self) -> dict[str, float]:
        counted, trusted = self._counted, self._trust()[self._counts]
        return {
            "effective_share": effective_share(counted) if counted.any() else 0.0,
            "largest_weight": float(counted.max()),
            "noise": self._seen.share,
            "noise_low": self._seen.low,
            "noise_high": self._seen.high,
            "noise_acting": self._noise,
            "heard": self._hears,
            "trust": float(trusted.mean()) if len(trusted) else 0.0,
        }

    def _signal(self) -> Array | None:
        """What the student hears in this epoch: the teacher and its own past, mixed; None while there is neither."""
        start, end = self._config.signal.own_past
        share = start + (end - start) * min(1.0, self._epoch / max(self._num_revisions - 1.0, 1.0))
        if self._teacher is None:
            return self._past if max(start, end) > 0 else None
        if self._past is None or share == 0.0:
            return self._teacher
        return (1.0 - share) * self._teacher + share * self._past

    def _apply(self) -> None:
        """Put weights and signal where the next steps find them."""
        signal, share, counts_in = self._signal(), self._config.signal.weight, self._config.weights.counts_in
        self._hears = self._heard(signal)
        ones = np.ones_like(self._weights)
        hears = self._hears * self._teacher_classes if share < 1.0 else np.full(len(ones), self._hears)
        in_its_place = (1.0 - share * hears) / (1.0 - share) if share < 1.0 else ones
        of_labels = ones if counts_in == "signal" else self._weights
        self.sequences.label_weights = in_its_place * self._trusted * of_labels
        self.sequences.signal_weights = hears * (ones if counts_in == "label" else self._weights)
        self.source.logits = as_logits(self._uniform() if signal is None else signal)

    def _uniform(self) -> Array:
        is_value = np.issubdtype(self._targets.dtype, np.floating)
        width = 1 if is_value else self._num_classes
        return np.full((len(self._targets), width), 0.0 if is_value else 1.0 / width)

    def _table(self, student: Array, agrees: NDArray[np.bool_]) -> SampleTable:
        return SampleTable(
            weight=self._counted.astype(np.float32),
            boost=coarse(self._weights),
            teacher=None if self._teacher is None else _answer(self._teacher),
            student=_answer(student),
            loss=_losses(student, self._targets).astype(np.float32),
            belief=self._beliefs.overall.astype(np.float32),
            agrees=agrees,
        )


def _answer(answers: Array) -> NDArray[Any]:
    return answers[:, 0].astype(np.float32) if answers.shape[1] == 1 else answers.argmax(1).astype(np.int16)


def _losses(student: Array, targets: NDArray[Any]) -> Array:
    if student.shape[1] == 1:
        return (student[:, 0] - targets) ** 2
    return -np.log(np.clip(np.take_along_axis(student, targets[:, None], axis=1)[:, 0], 1e-12, 1.0))
