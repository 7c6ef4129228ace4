"""What a stage `distill` trains: the student, and projections for losses of hidden states."""

from __future__ import annotations

from itertools import chain

from espalier.config.loss import HiddenStateSettings
from espalier.kinds.distill.kind import DistillStage
from espalier.models.families import layout
from espalier.models.projections import Projections
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart, tuned_part


def trained_part(settings: DistillStage, student: ConfigDict, teacher: ConfigDict | None) -> TrainedPart | None:
    """See `StageKind.trains`."""
    part = tuned_part(settings, student, teacher)
    of_states = (loss for loss in settings.losses if isinstance(loss, HiddenStateSettings))
    names = dict.fromkeys(filter(None, chain.from_iterable(loss.projections() for loss in of_states)))
    if not names or teacher is None:
        return part
    added = Projections(tuple(names), student, teacher)
    return TrainedPart.of(student, layout(student) if part is None else part.names, [added])
