"""Parameters that take part in no microbatch of a step: their gradient is zero at every level, not the last one."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from espalier.checkpoint.read import StateReader
from espalier.config.training import OptimizerConfig, ZeroLevel
from espalier.distributed.world import World
from espalier.engine.objective import TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from espalier.training.step import take_step
from support.invariance import sequences_of
from support.models import LLAMA, save_initial
from support.spawn import run_ranks

_LEVELS: tuple[ZeroLevel, ...] = ("none", "optimizer", "gradients", "parameters")
_ALL, _WITHOUT = (0, 1, 2), (0, 2)
_STEPS = ((_ALL, _ALL), (_WITHOUT, _WITHOUT), (_WITHOUT, _ALL), (_ALL, _ALL))
"""Layers that each microbatch of each step runs."""
_OPTIMIZER = OptimizerConfig(lr=1e-2, betas=(0.0, 0.0), eps=1e-4, weight_decay=0.0, clip=1e9)
_OBJECTIVE = TokenObjective((Term.of("cross_entropy"),))


def train(world: World, root: str, levels: tuple[ZeroLevel, ...]) -> list[tuple[list[float], dict[str, list[Tensor]]]]:
    """On every rank, by level: gradient norms and losses, and this rank's runs of the masters after each step."""
    return [_train(world, LocalStorage(Path(root)), level) for level in levels]


def _train(world: World, storage: LocalStorage, level: ZeroLevel) -> tuple[list[float], dict[str, list[Tensor]]]:
    reader = StateReader.open(storage, "model")
    own = sequences_of(4 // world.size, world)
    spec = EngineSpec(level, torch.float32, _OPTIMIZER, len(own))
    figures: list[float] = []
    masters: dict[str, list[Tensor]] = {}
    with closing(open_engine(spec, _OBJECTIVE, reader, steps_taken=0, world=world)) as engine:
        for step, orders in enumerate(_STEPS):
            report = take_step(
                engine, None, own, objective=_OBJECTIVE, lr=1e-2, random=(0, step), layer_orders=orders, world=world
            )
            figures += [report.loss, report.gradient_norm]
            for fragment in engine.fragments():
                if fragment.slot == "parameter":
                    masters.setdefault(f"{step} {fragment.name}", []).append(fragment.values.clone())
    return figures, masters


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_unused_layer_is_not_moved(tmp_path: Path, ranks: int) -> None:
    save_initial(tmp_path, "model", LLAMA, seed=1)
    by_rank = run_ranks(train, ranks, str(tmp_path), _LEVELS)
    found = [_joined([one[place] for one in by_rank]) for place in range(len(_LEVELS))]
    figures, masters = found[0]
    assert torch.equal(masters["0 model.layers.1.mlp.up_proj.weight"], masters["1 model.layers.1.mlp.up_proj.weight"])
    for others, values in found[1:]:
        assert others == pytest.approx(figures, rel=1e-5)
        for name, wanted in masters.items():
            assert float((values[name] - wanted).norm() / wanted.norm()) < 1e-5, name


def _joined(parts: list[tuple[list[float], dict[str, list[Tensor]]]]) -> tuple[list[float], dict[str, Tensor]]:
    names = {name for _, masters in parts for name in masters}
    whole = {name: torch.cat([run for _, held in parts for run in held.get(name, [])]) for name in names}
    return parts[0][0], whole
