"""Stage `correct`: train on labels and a signal, with sample weights that are revised every epoch."""

from __future__ import annotations

from functools import partial

from espalier.config.format import DataSettings
from espalier.kinds.correct.corrected_labels import CorrectedLabels
from espalier.kinds.correct.corrected_text import CorrectedText
from espalier.kinds.correct.kind import CorrectStage
from espalier.objectives.terms import Term
from espalier.stages.result import StageResult
from espalier.training.label_terms import label_term
from espalier.training.loop import train
from espalier.training.supervised import Supervised
from espalier.worker.context import StageContext


def run(context: StageContext[CorrectStage]) -> StageResult:
    """Train the student. Collective."""
    terms = _terms(context.config, context.data)
    if context.labelled is not None:  # the teacher's predictions are computed before the first step
        return train(context, partial(Supervised.open, terms=terms, open_revision=CorrectedLabels.open))
    open_method = partial(Supervised.open, terms=terms, open_revision=CorrectedText.open)
    return train(context, open_method, teacher=context.config.teacher)


def _terms(stage: CorrectStage, data: DataSettings) -> tuple[Term, ...]:
    """The loss on labels and the loss on the signal; a term of weight 0 is left out."""
    share, regression = stage.signal.weight, data.targets == "values"
    signal = Term.of("squared_distance") if regression else Term.of("forward_kl", temperature=stage.signal.temperature)
    terms = (label_term(data, weight=1.0 - share), signal.weighted(share))
    return tuple(term for term in terms if term.weight > 0)
