"""Checks of a stage `grow` before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.growth import DepthOperator, SharingMap
from espalier.kinds.grow.kind import GrowStage
from espalier.models.families import shape_of
from espalier.planning.checked import Checked
from espalier.planning.preview import StagePreview

_SHARING: dict[DepthOperator, SharingMap] = {"interpolate": "interpolate", "identity": "interpolate", "stack": "stack"}
"""Operator -> the order of depth sampling that places layers as it does; other operators have none."""


def faults(checked: Checked, preview: StagePreview) -> Iterator[Fault]:
    """See `StageKind.checks`. Depth sampling trains layers to be repeated in one order; growth has to keep it."""
    config = preview.stage.config
    assert isinstance(config, GrowStage)
    before, after = (shape_of(checked.models[name].config).layers for name in (config.student, config.name))
    trained, own = checked.models[config.student].stage.config, _SHARING.get(config.operator)
    sampling = getattr(trained, "depth_sampling", None)
    if sampling is None or after == before or sampling.order == own:
        return
    wanted = f"{sampling.order}, the order in which depth sampling in stage {trained.name} repeated the layers"
    other = f"; or {own} as stages.{trained.name}.depth_sampling.order" if own else ""
    yield Fault(f"stages.{config.name}.operator", config.operator, wanted + other)
