"""A loss of log-probabilities that couples two sequences: the naive gradient, under every engine, rank and split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from espalier.checkpoint.read import StateReader
from espalier.distributed.world import World
from espalier.engine.frozen import FrozenModel
from espalier.storage.local import LocalStorage
from support.invariance import (
    PAIRS,
    Case,
    Outcome,
    difference,
    join,
    preference_sums,
    save_models,
    sequences_of,
    steps_of,
)
from support.spawn import run_ranks

_ONE = [
    Case("none", 8, tied=False, teacher="none", pairs=True),
    Case("none", 2, tied=False, teacher="none", pairs=True),
    Case("gradients", 4, tied=False, teacher="none", pairs=True),
]
_TWO = [
    Case("none", 4, tied=False, teacher="parameters", pairs=True),
    Case("optimizer", 2, tied=False, teacher="none", pairs=True),
    Case("gradients", 4, tied=False, teacher="none", pairs=True),
    Case("parameters", 2, tied=False, teacher="parameters", pairs=True, checkpointing=True),
]


def naive(root: Path) -> Outcome:
    """All logits at once, autograd through everything."""
    storage, world = LocalStorage(root), World(rank=0, size=1, device=torch.device("cpu"))
    (batch,) = sequences_of(8, world)
    models = [
        FrozenModel(StateReader.open(storage, name), zero_level="none", dtype=torch.float32, world=world)
        for name in ("untied", "teacher")
    ]
    network = models[0].network.requires_grad_(True)

    def log_probabilities(logits: Tensor) -> Tensor:
        chosen = logits.log_softmax(-1).gather(-1, batch.labels.clamp(min=0)[..., None])[..., 0]
        return chosen * batch.token_mask

    student, reference = (log_probabilities(one.network(batch, torch.nn.functional.linear)) for one in models)
    sums = preference_sums(student, reference.detach(), batch)
    means = [part / count for part, count in zip(sums, PAIRS.counts(batch), strict=True)]
    loss = sum(weight * mean for weight, mean in zip(PAIRS.weights, means, strict=True))
    loss.backward()
    gradients = {name: one.grad.flatten() for name, one in network.model.named_parameters()}
    norm = float(torch.cat(list(gradients.values())).norm())
    return Outcome(loss.item(), norm, gradients)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, Case], Outcome]:
    root = tmp_path_factory.mktemp("models")
    save_models(root)
    found: dict[tuple[int, Case], Outcome] = {(0, _ONE[0]): naive(root)}
    for ranks, cases in ((1, _ONE), (2, _TWO)):
        joined = join(run_ranks(steps_of, ranks, str(root), cases))
        found |= {(ranks, case): outcome for case, outcome in zip(cases, joined, strict=True)}
    return found


@pytest.mark.parametrize(("ranks", "case"), [*((1, case) for case in _ONE), *((2, case) for case in _TWO)])
def test_equals_the_naive_gradient(outcomes: dict[tuple[int, Case], Outcome], ranks: int, case: Case) -> None:
    assert difference(outcomes[ranks, case], outcomes[0, _ONE[0]]) < 1e-5
