"""Engines leave nothing behind: ten in one process, of two levels and changing shapes."""

from __future__ import annotations

import gc
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from espalier.checkpoint.read import StateReader
from espalier.config.training import OptimizerConfig
from espalier.distributed.world import World
from espalier.engine.closing import free_memory
from espalier.engine.frozen import FrozenModel
from espalier.engine.objective import TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from espalier.training.step import take_step
from support.invariance import LENGTH, sequences_of
from support.models import LLAMA, save_initial
from support.spawn import run_ranks

_WIDTHS = (60, 180, 120)
_OBJECTIVE = TokenObjective((Term.of("forward_kl"),))


def live_bytes() -> int:
    """Of every tensor that the garbage collector can see."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def ten_engines(world: World, root: str) -> tuple[list[int], list[int], bool]:
    """Live tensor bytes and resident memory after each engine; whether torch's own linear is back."""
    linear = torch.nn.functional.linear
    live, resident = [], []
    for number in range(10):
        _one_engine(world, root, number)
        free_memory()
        live.append(live_bytes())
        resident.append(psutil.Process().memory_info().rss)
    return live, resident, torch.nn.functional.linear is linear


def _one_engine(world: World, root: str, number: int) -> None:
    width = _WIDTHS[number % 3]
    level: Any = ("parameters", "gradients", "parameters", "none", "optimizer")[number % 5]
    reader = StateReader.open(LocalStorage(Path(root)), f"width-{width}")
    microbatches = sequences_of(2, world)
    spec = EngineSpec(level, torch.float32, OptimizerConfig(lr=1e-3), len(microbatches))
    sharded: Any = "parameters" if number % 2 else "none"
    with (
        closing(FrozenModel(reader, zero_level=sharded, dtype=torch.float32, world=world)) as teacher,
        closing(open_engine(spec, _OBJECTIVE, reader, steps_taken=0, world=world)) as engine,
    ):
        for step in range(2):
            take_step(engine, teacher, microbatches, objective=_OBJECTIVE, lr=1e-3, random=(0, step), world=world)


def test_ten_engines_leave_memory_as_it_was(tmp_path: Path) -> None:
    for width in _WIDTHS:
        config = {
            **LLAMA,
            "hidden_size": width,
            "intermediate_size": 8 * width,
            "max_position_embeddings": LENGTH,
        }
        save_initial(tmp_path, f"width-{width}", config, seed=width)
    for live, resident, restored in run_ranks(ten_engines, 2, str(tmp_path)):
        assert max(live) < 2**20, live
        assert max(resident[3:]) < resident[2] + 64 * 2**20, resident
        assert restored


def test_the_measure_sees_a_leak() -> None:
    before = live_bytes()
    kept = torch.zeros(2**19)
    assert live_bytes() >= before + kept.nbytes
    assert pytest.approx(0.0) == kept.sum().item()
