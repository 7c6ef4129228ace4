"""Parameters that some workers use in a step and others do not: right at every level, or refused."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from espalier.checkpoint.read import StateReader
from espalier.config.training import OptimizerConfig, ZeroLevel
from espalier.distributed.world import World
from espalier.engine.objective import TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.models.build import build_network
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from espalier.training.step import take_step
from support.experts import Experts, by_pairs, first_pairs
from support.invariance import sequences_of
from support.models import LLAMA, save_initial
from support.spawn import run_ranks

_LEVELS: tuple[ZeroLevel, ...] = ("none", "optimizer", "gradients", "parameters")
_OPTIMIZER = OptimizerConfig(lr=1e-2, betas=(0.0, 0.0), eps=1e-4, weight_decay=0.0, clip=1e9)
_OBJECTIVE = TokenObjective((Term.of("cross_entropy"),))
_WIDTH, _LAYERS = LLAMA["hidden_size"], LLAMA["num_hidden_layers"]
Outcomes = tuple[list[Any], list[Any], list[Any]]
_REFUSED = "has a gradient on some workers only; use zero_level none"


@dataclass(frozen=True)
class Case:
    """Three steps of a model with experts.

    Attributes:
        whole: whether all of the model is trained, too.
        orders: by rank, the layers that each microbatch runs; all when left out.
    """

    zero_level: ZeroLevel
    experts: Experts
    whole: bool = True
    orders: tuple[tuple[int, ...], ...] = ()


def _experts(*, first: bool = False, declared: bool = True) -> Experts:
    return Experts(_WIDTH, _LAYERS, first_pairs if first else by_pairs, declared)


_RIGHT = [Case(level, _experts()) for level in _LEVELS]
_RIGHT += [Case(level, _experts(first=True), whole=False) for level in ("optimizer", "gradients", "parameters")]
_WRONG = [Case(level, _experts(declared=False)) for level in ("optimizer", "gradients")]
_WRONG += [Case("gradients", _experts(), orders=((0, 1, 2), (0, 2)))]


def train(world: World, root: str, cases: list[Case]) -> list[tuple[list[float], dict[str, Tensor]] | str]:
    """On every rank: losses and norms, and this rank's runs of the masters; or the error of a case."""
    return [_train(world, LocalStorage(Path(root)), case) for case in cases]


def _train(world: World, storage: LocalStorage, case: Case) -> tuple[list[float], dict[str, Tensor]] | str:
    reader, own = StateReader.open(storage, "model"), sequences_of(2, world)
    trained = None if case.whole else frozenset[str]()
    spec = EngineSpec(
        case.zero_level, torch.float32, _OPTIMIZER, len(own), additions=(case.experts,), trained=trained, seed=3
    )
    orders = [case.orders[world.rank]] * len(own) if case.orders else []
    figures: list[float] = []
    with closing(open_engine(spec, _OBJECTIVE, reader, steps_taken=0, world=world)) as engine:
        for step in range(3):
            try:
                report = take_step(
                    engine, None, own, objective=_OBJECTIVE, lr=1e-2, random=(0, step), layer_orders=orders, world=world
                )
            except ValueError as error:
                return str(error)
            figures += [report.loss, report.gradient_norm]
        return figures, {one.name: one.values.clone() for one in engine.fragments() if one.slot == "parameter"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """Of the right cases on one worker and no level, and on two; of the wrong ones on two."""
    root = tmp_path_factory.mktemp("experts")
    save_initial(root, "model", LLAMA, seed=1)
    alone = run_ranks(train, 1, str(root), [Case("none", case.experts, case.whole) for case in _RIGHT])
    both = run_ranks(train, 2, str(root), _RIGHT + _WRONG)
    found = list(zip(*both, strict=True))
    return alone[0], found[: len(_RIGHT)], found[len(_RIGHT) :]


@pytest.mark.parametrize("place", range(len(_RIGHT)))
def test_an_expert_that_a_worker_does_not_use_learns_from_the_others(outcomes: Outcomes, place: int) -> None:
    (figures, wanted), parts = outcomes[0][place], outcomes[1][place]
    assert parts[0][0] == pytest.approx(figures, rel=1e-5)
    for name, whole in wanted.items():
        found = torch.cat([masters[name] for _, masters in parts if name in masters])
        assert float((found - whole).norm() / whole.norm()) < 1e-5, name


@pytest.mark.parametrize("place", range(len(_WRONG)))
def test_what_is_not_declared_is_refused_on_all_workers(outcomes: Outcomes, place: int) -> None:
    assert all(_REFUSED in told for told in outcomes[2][place])


def test_outside_of_the_layers_it_is_refused() -> None:
    experts = Experts(_WIDTH, _LAYERS + 1, by_pairs)
    with pytest.raises(ValueError, match=r"Experts: .*layers\.3.* may be unused and is in no layer"):
        build_network(LLAMA, dtype=torch.float32, device=torch.device("cpu"), additions=[experts])
