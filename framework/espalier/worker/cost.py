"""Measure what a stage used: memory, time, tokens, FLOPs."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
import torch

from espalier.distributed.world import World
from espalier.stages.result import Cost
from espalier.worker.context import StageContext


def peak_bytes(world: World) -> int:
    """Peak memory of this worker: allocated on its GPU, or resident on its host."""
    if world.device.type == "cuda":
        return torch.cuda.max_memory_allocated(world.device)
    return _host_peak_bytes()


def forget_peak(world: World) -> None:
    """Reset the peak memory; where the system does not allow that, the old peak stays."""
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: resets the high-water mark


def stage_cost(context: StageContext, *, tokens: int = 0, samples: int = 0, flops: float = 0.0) -> Cost:
    """The cost of a stage that ends now; counts are global. Collective."""
    peak = max(context.world.gather(peak_bytes(context.world)))
    return Cost(tokens, samples, flops, time.time() - context.started, peak)


def _host_peak_bytes() -> int:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return psutil.Process().memory_info().rss  # no high-water mark on this system
