"""Settings of self-correction (DCS): the teacher's signal, sample weights, and the guard against wrong labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from espalier.config.base import Config, Count, Share, Temperature, parse_tuple
from espalier.config.faults import Fault, RefusedInput
from espalier.config.paths import InputFile

_Positive = Annotated[float, Field(gt=0.0)]


class SignalConfig(Config):
    """The signal, soft targets beside labels. Loss: (1 - weight) * loss on the label + weight * loss on the signal."""

    weight: Share = 0.5
    temperature: Temperature = 2.0
    """The temperature of both models' logits in the divergence, which is multiplied by its square."""
    min_skill: Share = 0.3
    """Of labelled samples: the agreement of the signal with right labels, beyond chance (Cohen's kappa; of a regression
    the explained variance), from which it is trusted in full. Below half of it the labels take its place, in between as
    far as it falls short: what knows little more than how frequent each class is would teach the student to answer the
    most frequent one. With a cross-fitted teacher also of each class: the share of its right labels that are given."""
    full_at_noise: Share | None = None
    """Of labelled samples: the share of wrong labels from which the signal is trusted in full. Below it labels take its
    place as far as it falls short: where they are right, they teach better than models that have not seen them.
    Without it: 0.2 for a cross-fitted teacher; 0, always in full, for any other. Values of cross-fitted models are
    trusted half as far as classes."""
    own_past: Annotated[tuple[Share, Share], BeforeValidator(parse_tuple)] = (0.0, 0.0)
    """The share of the student's own predictions of earlier epochs in the signal: in the first and in the last
    epoch."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Momentum of the moving average of the student's predictions over the epochs; 0: those of the last epoch."""

    def full_at(self, *, is_held_out: bool) -> float:
        """`full_at_noise`, or its default."""
        return self.full_at_noise if self.full_at_noise is not None else 0.2 * is_held_out


class WeightsConfig(Config):
    """Sample weights: boosting raises them where models disagree, as AdaBoost does for mistakes (SAMME)."""

    counts_in: Literal["label", "signal", "both"] = "both"
    """The part of the loss that the weights multiply."""
    disagreement: Literal["teacher", "label", "either"] = "teacher"
    """With what the student's predictions are compared."""
    measure: Literal["class", "probability"] = "class"
    """Whether another class is predicted (0 or 1), or half the L1 distance of the probabilities (0 to 1)."""
    predictions: Literal["evaluation", "training"] = "evaluation"
    """A prediction pass at the end of each epoch, without dropout; or running predictions collected during training."""
    alpha: Literal["samme", "adaboost_half", "fixed"] = "samme"
    """`samme` divides the error by its value at chance, so that steps do not grow with the number of classes."""
    rate: Annotated[float, Field(ge=0.0, le=10.0)] | None = None
    """The step size: alpha is multiplied by it; with `fixed` it is alpha. 0 never changes a weight. When left out, 0
    with a cross-fitted teacher, where boosting gained nothing on most data, and 0.5 with any other."""
    tolerance: _Positive | None = None
    """Regression: the distance, in the label's units, above which predictions count as disagreement."""
    ceiling: Annotated[float, Field(ge=1.0, le=1e6)] = 10.0
    floor: Share = 0.0
    """The largest and smallest weight; the mean is 1."""
    min_effective_share: Share = 0.3
    """Weights are shrunk towards 1 until their effective number, (sum w)^2 / sum w^2, is this share of the samples."""
    initial: InputFile | None = None
    """A parquet file with the weights to begin with, such as a run's own table of an epoch."""

    def step_size(self, *, is_held_out: bool) -> float:
        """`rate`, or its default."""
        return self.rate if self.rate is not None else 0.5 * (not is_held_out)


class DistrustConfig(Config):
    """The guard against wrong labels, whose weights boosting would otherwise raise."""

    rule: Literal["none", "persistent", "graded"] = "graded"
    """`persistent`: the weight of a sample is not raised once teacher and student have both contradicted its label for
    `epochs` epochs. `graded`: the loss on a label is multiplied by the probability that it is right."""
    epochs: Count = 2
    noise: Annotated[float, Field(ge=0.0, lt=1.0)] | None = None
    """graded: the share of wrong labels. When left out, the lower end of an estimate from the teacher's predictions, or
    from the student's without a teacher."""
    min_noise: Share = 0.06
    """With a cross-fitted teacher and without `noise`: when the lower end of the estimate is below this share, nothing
    is corrected, and the stage is plain fine-tuning, bit for bit. Published data sets have up to 0.05 of wrong labels,
    and correcting these gains nothing."""
    exclude: InputFile | None = None
    """A text file with one sample name a line; the labels of these samples do not count."""


def check_correction(signal: SignalConfig, weights: WeightsConfig, teacher: str | None) -> None:
    """Check settings that depend on each other.

    Raises:
        RefusedInput: a signal without a source, or without one in the first epoch although it is the whole loss.
    """
    faults = []
    if teacher is None and signal.weight > 0 and max(signal.own_past) == 0:
        allowed = "a share above 0 at the end, as no `teacher` is named; or name one"
        faults.append(Fault("signal.own_past", list(signal.own_past), allowed))
    if teacher is None and weights.disagreement != "label" and max(signal.own_past) == 0:
        faults.append(Fault("weights.disagreement", weights.disagreement, "label, as there is no teacher"))
    if teacher is None and signal.weight == 1.0:
        allowed = "below 1, as without a `teacher` nothing but labels is there in the first epoch; or name one"
        faults.append(Fault("signal.weight", signal.weight, allowed))
    if faults:
        raise RefusedInput(faults)
