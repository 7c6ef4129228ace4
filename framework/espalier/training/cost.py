"""Counting what a stage used."""

from __future__ import annotations

import resource
import time

import torch

from espalier.distributed.world import World
from espalier.stages.result import Cost
from espalier.training.context import StageContext


def peak_bytes(world: World) -> int:
    """Largest memory of this worker so far: allocated on its GPU, or resident on its host."""
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated(world.device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def stage_cost(context: StageContext, *, tokens: int = 0, samples: int = 0, flops: float = 0.0) -> Cost:
    """The cost of a stage that ends now. Collective; counts are global."""
    peak = max(context.world.gather(peak_bytes(context.world)))
    return Cost(tokens, samples, flops, time.time() - context.started, peak)
