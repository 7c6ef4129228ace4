"""Which number format a worker computes in."""

from __future__ import annotations

import time
from functools import cache
from typing import Literal

import torch


def compute_dtype(asked: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU, and on a CPU where bfloat16 products are really faster."""
    if asked != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[asked]
    fast = device.type == "cuda" or _cpu_prefers_bfloat16()
    return torch.bfloat16 if fast else torch.float32


@cache
def _cpu_prefers_bfloat16() -> bool:
    """Measured, not read from a flag: without the instructions bfloat16 works, at a tenth of the speed."""
    return 1.3 * _product_seconds(torch.bfloat16) < _product_seconds(torch.float32)


def _product_seconds(dtype: torch.dtype) -> float:
    left, right = torch.ones(1024, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return min(times)
