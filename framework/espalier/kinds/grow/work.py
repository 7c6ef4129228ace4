"""Stage `grow`: write a larger model, with the optimizer's moments, from a committed state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import Any

import torch
from torch import Tensor

from espalier.checkpoint.fragments import Fragment, Slot
from espalier.checkpoint.read import StateReader
from espalier.distributed.streams import stream_seed
from espalier.kinds.grow.growth_check import compare, growth_check_flops
from espalier.kinds.grow.kind import GrowStage
from espalier.models.build import build_initialised
from espalier.models.families import num_parameters, shape_of
from espalier.saving.states import Lineage, save_model
from espalier.stages.result import StageResult
from espalier.surgery.grow import Grower
from espalier.surgery.growth import Growth, planned_growth
from espalier.surgery.widen import MomentOrder
from espalier.worker.context import StageContext
from espalier.worker.cost import stage_cost

_CHECK = "seam"  # the metric's name in the results of all versions
_MOMENT_ORDERS: dict[Slot, MomentOrder] = {"parameter": 0, "exp_avg": 1, "exp_avg_sq": 2}


def run(context: StageContext[GrowStage]) -> StageResult:
    """Grow the model on rank zero, tensor by tensor, and check it; other workers wait. Collective."""
    stage = context.config
    student = context.model_of(stage.student)
    growth = planned_growth(stage, student.manifest.origin.model)
    before, after = shape_of(growth.parent), shape_of(growth.config)
    context.activity(f"growing {before.layers} layers to {after.layers}, hidden {before.hidden} to {after.hidden}")
    lineage = Lineage.after(student, model=growth.config)
    folder = save_model(context, _grown(context, student, growth), lineage, state=_kept_state(student))
    check = compare(context, growth, student, folder)
    metrics: dict[str, Any] = {
        "parameters": num_parameters(growth.config),
        "parent_parameters": num_parameters(growth.parent),
        "shape": asdict(after),
        "parent_shape": asdict(before),
        "sources": list(growth.sources),
        "operator": stage.operator,
        "moments": _has_moments(student),
        _CHECK: check,
    }
    cost = stage_cost(context, flops=growth_check_flops(context, growth) if check else 0.0)
    return StageResult(stage.name, stage.kind, context.key, "done", folder, metrics, cost)


def _kept_state(student: StateReader) -> dict[str, Any]:
    """The number of updates behind the moments, from which Adam's bias correction goes on."""
    return {"updates": student.manifest.state["updates"]} if _has_moments(student) else {}


def _has_moments(student: StateReader) -> bool:
    """Whether there are some of all parameters; those of a part that was trained alone are left behind."""
    return student.has_moments(student.shapes)


def _grown(context: StageContext[GrowStage], student: StateReader, growth: Growth) -> Iterator[Fragment]:
    grower, seed, name = Grower(growth), context.job.seed, context.config.name
    draw = torch.Generator().manual_seed(stream_seed(seed, f"noise {name}"))

    @cache
    def initial() -> dict[str, Tensor]:
        model = build_initialised(growth.config, seed=stream_seed(seed, f"fresh layers {name}"))
        return {name: value.detach() for name, value in model.named_parameters()}

    with_moments = _has_moments(student)
    for slot in (one for one in student.slots if one == "parameter" or (with_moments and one in _MOMENT_ORDERS)):

        def read(name: str, slot: Slot = slot) -> Tensor:
            return student.tensor(slot, name)

        for name in grower.names():
            tensor = grower.tensor(
                name, moment_order=_MOMENT_ORDERS[slot], read=read, fresh=lambda name: initial()[name], draw=draw
            )
            yield Fragment(slot, name, 0, tensor.reshape(-1))
