"""What a stage `lora` trains."""

from __future__ import annotations

from espalier.models.families import layout
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart, tuned_part
from espalier_lora.adapter import LowRank
from espalier_lora.kind import LoraStage, is_target


def trained_part(settings: LoraStage, student: ConfigDict, teacher: ConfigDict | None) -> TrainedPart:
    """Adapters of the matrices inside layers, and what `tune` names of the model."""
    matrices = (name for name, one in layout(student).items() if one.layer is not None and len(one.shape) == 2)
    targets = tuple(name for name in matrices if is_target(name, settings))
    adapters = LowRank(student, targets, settings.rank, settings.alpha / settings.rank)
    tuned = tuned_part(settings, student, teacher)
    return TrainedPart.of(student, tuned.names if tuned else (), [adapters])
