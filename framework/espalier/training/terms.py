"""What a stage minimises."""

from __future__ import annotations

from espalier.config.data import DataConfig
from espalier.config.labelled import LabelledConfig
from espalier.config.stages import CorrectStage, DistillStage, TrainedStage
from espalier.objectives.terms import Term, terms_of


def stage_terms(stage: TrainedStage, data: DataConfig | LabelledConfig) -> tuple[Term, ...]:
    """The terms of the weighted sum, by the kind of stage and of data."""
    if isinstance(stage, DistillStage):
        return terms_of(stage.losses)
    is_regression = isinstance(data, LabelledConfig) and data.task == "regression"
    label = "squared_error" if is_regression else "cross_entropy"
    if not isinstance(stage, CorrectStage):
        return (Term(label),)
    signal = "squared_distance" if is_regression else "forward_kl"
    share, temperature = stage.signal.weight, 1.0 if is_regression else stage.signal.temperature
    terms = (Term(label, weight=1.0 - share), Term(signal, weight=share, temperature=temperature))
    return tuple(term for term in terms if term.weight > 0)
