"""Run one stage on a worker, as one rank of a process group."""

from __future__ import annotations

import gc
from functools import cache

import torch
from torch.utils import deterministic

from espalier.checkpoint.manifest_file import discard
from espalier.checkpoint.steps import replaced, stage_folder
from espalier.distributed.world import World
from espalier.jobs.dials import faults_of_recipe
from espalier.jobs.kind import KINDS
from espalier.jobs.stage import StageSettings
from espalier.jobs.trained_stage import TrainedStage
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier.worker.context import StageContext
from espalier.worker.cost import forget_peak
from espalier.worker.failure import mark_lasting


def serve(order: StageOrder, control: Control) -> StageResult:
    """Run the stage of an order in the existing process group. Collective."""
    return run_stage(order, World.from_process_group(), control)


def run_stage(order: StageOrder, world: World, control: Control) -> StageResult:
    """Run the stage of an order and commit its result. Collective."""
    if world.device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # It costs a tenth of a step, and no uninitialised memory is read here.
        deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch sets the class late
    _exempt_modules_from_collection()
    forget_peak(world)
    context = StageContext.open(order, world, control)
    control.beat("opening")
    if world.is_rank_zero and not isinstance(context.config, TrainedStage):
        context.times.record("working", order.stage)
    control.num_steps = 0
    try:
        with faults_of_recipe(context.job):
            result = KINDS[context.config.kind].call("work")(context)
    except Exception as error:
        if control.num_steps == 0:
            mark_lasting(error)
        raise
    if world.is_rank_zero:
        context.folder.write_result(result)
        _forget_replaced(context, result)
    world.barrier()
    return result


@cache
def _exempt_modules_from_collection() -> None:
    """Once in a process, let the garbage collector skip what is there before the first stage.

    Every engine that closes collects, and to look through the libraries' modules takes 0.4 s each time.
    """
    gc.freeze()


def _forget_replaced(context: StageContext[StageSettings], result: StageResult) -> None:
    """On rank zero remove the stage's checkpoints of other settings, now that `result` is committed.

    States of earlier stages that only those were based on are removed, too.
    """
    if result.checkpoint is None:
        return
    others = [entry.name for entry in context.folder.plan() if entry.name != result.stage]
    for one in (result, *reversed(context.folder.results(others).values())):
        if one.checkpoint is not None:
            for folder in replaced(context.storage, stage_folder(one.stage), by=one.checkpoint):
                discard(context.storage, folder)
