"""A runner without Ray: one worker in this process."""

from __future__ import annotations

import torch.distributed as dist

from espalier.config.faults import RefusedInput
from espalier.distributed.world import World
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier.worker.failure import describe
from espalier.worker.run_stage import run_stage


class InProcessRunner:
    """Runs stages in this process, with a process group of one. For tests and `espalier run --in-process`."""

    def __init__(self, control: Control) -> None:
        self._owns_group = not dist.is_initialized()
        self._world = World.alone()
        self._control = control

    def run(self, order: StageOrder) -> StageResult:
        try:
            return run_stage(order, self._world, self._control)
        except (RefusedInput, StageFailed):
            raise
        except Exception as error:
            raise describe(error, where=f"stage {order.stage}") from error

    def close(self) -> None:
        """Destroy the process group if it was made here. May be called twice."""
        if self._owns_group and dist.is_initialized():
            dist.destroy_process_group()
