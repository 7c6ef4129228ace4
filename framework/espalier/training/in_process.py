"""A runner without a cluster: one worker, this process."""

from __future__ import annotations

import traceback

from espalier.config.faults import RefusedInput
from espalier.distributed.world import World
from espalier.stages.orders import StageFailed, StageOrder
from espalier.stages.result import StageResult
from espalier.training.worker import run_stage


class InProcessRunner:
    """Serves tests, and a person with one device and no wish for Ray."""

    def __init__(self) -> None:
        self._world = World.alone()

    def run(self, order: StageOrder) -> StageResult:
        try:
            return run_stage(order, self._world)
        except RefusedInput:
            raise
        except Exception as error:
            raise StageFailed("error", f"stage {order.stage}: {error}", traceback.format_exc()) from error

    def close(self) -> None:
        """Nothing is held between stages."""
