"""What a stage `grow` would undo."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.growth import DepthOperator, SharingMap
from espalier.kinds.grow.kind import GrowStage
from espalier.models.families import shape_of
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview

_ORDERS: dict[DepthOperator, SharingMap] = {"interpolate": "interpolate", "identity": "interpolate", "stack": "stack"}
"""Operator -> the order of lessons in which layers stand where it puts them; others have none."""


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`. Lessons make layers ready to be copied in one order; another order would undo that."""
    config = preview.stage.config
    assert isinstance(config, GrowStage)
    before, after = (shape_of(checked.models[name].config).layers for name in (config.student, config.name))
    trained, own = checked.models[config.student].stage.config, _ORDERS.get(config.operator)
    lessons = getattr(trained, "lessons", None)
    if lessons is None or after == before or lessons.order == own:
        return
    wanted = f"{lessons.order}, the order in which the lessons of stage {trained.name} shared its layers"
    other = f"; or {own} as stages.{trained.name}.lessons.order" if own else ""
    yield Fault(f"stages.{config.name}.operator", config.operator, wanted + other)
