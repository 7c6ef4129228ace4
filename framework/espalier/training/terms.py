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
        return (Term.of(label),)
    signal = "squared_distance" if is_regression else "forward_kl"
    share, tempered = stage.signal.weight, {} if is_regression else {"temperature": stage.signal.temperature}
    terms = (Term.of(label).weighted(1.0 - share), Term.of(signal, **tempered).weighted(share))
    return tuple(one for one in terms if one.weight > 0)
