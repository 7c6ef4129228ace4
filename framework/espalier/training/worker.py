"""A worker's side of a run: carry out one order, as one rank of many."""

from __future__ import annotations

from collections.abc import Callable

import torch

from espalier.config.stages import TrainedStage
from espalier.distributed.world import World
from espalier.stages.control import Control
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier.training import cross_fit, evaluate, export, grow, load, prune, train
from espalier.training.context import StageContext
from espalier.training.cost import forget_peak
from espalier.training.failure import mark_lasting
from espalier.training.state import forget_replaced

_WORK: dict[str, Callable[[StageContext], StageResult]] = {
    "load": load.run,
    "grow": grow.run,
    "prune": prune.run,
    "distill": train.run,
    "train": train.run,
    "correct": train.run,
    "cross_fit": cross_fit.run,
    "evaluate": evaluate.run,
    "export": export.run,
}


def serve(order: StageOrder, control: Control) -> StageResult:
    """Carry out one order. Called on every worker of a process group that is already set up. Collective."""
    return run_stage(order, World.from_process_group(), control)


def run_stage(order: StageOrder, world: World, control: Control) -> StageResult:
    """Carry out one order and commit its result."""
    if world.device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs a tenth of a step, and we read none
    forget_peak(world)
    context = StageContext.open(order, world, control)
    control.beat("opening")
    if world.is_rank_zero and not isinstance(context.config, TrainedStage):
        context.times.mark("working", order.stage)
    control.num_steps = 0
    try:
        result = _WORK[context.config.kind](context)
    except Exception as error:
        if control.num_steps == 0:
            mark_lasting(error)
        raise
    if world.is_rank_zero:
        context.folder.write_result(result)
        forget_replaced(context, result)
    world.barrier()
    return result
