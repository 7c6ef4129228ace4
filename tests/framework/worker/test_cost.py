"""Peak memory is that of what is being measured, not of what came before."""

from __future__ import annotations

import sys

import pytest
import torch

from espalier.distributed.world import World
from espalier.worker.cost import forget_peak, peak_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its high-water mark")
def test_the_peak_is_reset_between_stages() -> None:
    world = World(0, 1, torch.device("cpu"))
    torch.ones(2**26)  # 256 MiB, gone at once
    high = peak_bytes(world)
    forget_peak(world)
    assert peak_bytes(world) < high - 2**27
    kept = torch.ones(2**25)
    assert peak_bytes(world) >= kept.nbytes
