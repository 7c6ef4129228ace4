"""What the first engine of a process loads."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import torch

from espalier.checkpoint.read import StateReader
from espalier.config.training import OptimizerConfig
from espalier.distributed.world import World
from espalier.engine.objective import TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from support.models import LLAMA, save_initial
from support.spawn import run_ranks


def loads_a_compiler(world: World, root: str) -> bool:
    """Whether torch's compiler has been imported once a sharded engine is open."""
    spec = EngineSpec("optimizer", torch.float32, OptimizerConfig(lr=1e-3), 1)
    objective = TokenObjective((Term.of("cross_entropy"),))
    reader = StateReader.open(LocalStorage(Path(root)), "model")
    with closing(open_engine(spec, objective, reader, steps_taken=0, world=world)):
        return "torch._inductor.compile_fx" in sys.modules


def test_a_sharded_engine_loads_no_compiler(tmp_path: Path) -> None:
    save_initial(tmp_path, "model", LLAMA, seed=1)
    assert run_ranks(loads_a_compiler, 1, str(tmp_path)) == [False]
