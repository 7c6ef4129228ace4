"""What a stage `distill` trains: the student, and projections for losses of hidden states."""

from __future__ import annotations

from espalier.kinds.distill.kind import DistillStage
from espalier.models.families import layout
from espalier.models.projections import projections_of
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart, tuned_part


def trained_part(settings: DistillStage, student: ConfigDict, teacher: ConfigDict | None) -> TrainedPart | None:
    """See `StageKind.trains`."""
    part, added = tuned_part(settings, student, teacher), projections_of(settings.losses, student, teacher)
    if not added:
        return part
    return TrainedPart.of(student, layout(student) if part is None else part.names, added)
