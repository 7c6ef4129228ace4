"""Losses of hidden states through learned projections: the naive gradient, under every engine, rank and split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from espalier.checkpoint.read import StateReader
from espalier.data.batch import Batch
from espalier.distributed.world import World
from espalier.engine.frozen import FrozenModel
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from support.invariance import TEACHER, Case, Outcome, difference, join, save_models, sequences_of, steps_of
from support.models import LLAMA
from support.spawn import run_ranks

TERMS = (
    Term.of("hidden_mse", layers=((1, 2), (3, 3)), weight=0.8),
    Term.of("forward_kl", temperature=1.5),
    Term.of("hidden_cosine", layers=((3, 3),), weight=0.3),
    Term.of("cross_entropy", weight=0.2),
)
_ONE = [
    Case("none", 8, tied=False, teacher="none", terms=TERMS),
    Case("none", 1, tied=False, teacher="none", terms=TERMS, checkpointing=True),
    Case("gradients", 4, tied=False, teacher="none", terms=TERMS),
    Case("parameters", 4, tied=False, teacher="parameters", terms=TERMS, checkpointing=True),
]
_TWO = [
    Case("none", 2, tied=False, teacher="parameters", terms=TERMS),
    Case("optimizer", 1, tied=False, teacher="none", terms=TERMS),
    Case("gradients", 4, tied=False, teacher="none", terms=TERMS, checkpointing=True),
    Case("parameters", 2, tied=False, teacher="parameters", terms=TERMS),
    Case("parameters", 1, tied=False, teacher="none", terms=TERMS, checkpointing=True),
]


def naive(root: Path) -> Outcome:
    """All logits at once, hidden states from the stock models, autograd through everything."""
    storage, world = LocalStorage(root), World(rank=0, size=1, device=torch.device("cpu"))
    (batch,) = sequences_of(8, world, padded=True)
    student, teacher = (
        FrozenModel(StateReader.open(storage, name), zero_level="none", dtype=torch.float32, world=world).network
        for name in ("untied", "teacher")
    )
    student.requires_grad_(True)
    widths = TEACHER["hidden_size"], LLAMA["hidden_size"]
    maps = {name: torch.eye(*widths).requires_grad_() for name in ("1-2", "3-3")}
    ours, theirs = states_of(student.model, batch), states_of(teacher.model, batch)

    def apart(student_layer: int, teacher_layer: int, *, cosine: bool) -> Tensor:
        """The mean over tokens that are no padding."""
        mine, other = ours[student_layer] @ maps[f"{student_layer}-{teacher_layer}"].t(), theirs[teacher_layer].detach()
        values = 1 - nn.functional.cosine_similarity(mine, other, dim=-1) if cosine else (mine - other).pow(2).mean(-1)
        text = batch.documents == 0
        return (values * text * batch.sample_weights[:, None]).sum() / text.sum()

    logits, theirs_logits = student.model.lm_head(ours["last"]), teacher.model.lm_head(theirs["last"]).detach()
    p, log_q = (theirs_logits / 1.5).softmax(-1), (logits / 1.5).log_softmax(-1)
    divergence = 1.5**2 * (p * (p.log() - log_q)).sum(-1)
    entropy = -logits.log_softmax(-1).gather(-1, batch.labels.clamp(min=0)[..., None])[..., 0]
    counts = batch.token_mask * batch.sample_weights[:, None] / batch.token_mask.sum()
    loss = 0.8 * (apart(1, 2, cosine=False) + apart(3, 3, cosine=False)) / 2 + 0.3 * apart(3, 3, cosine=True)
    loss = loss + (divergence * counts).sum() + 0.2 * (entropy * counts).sum()
    loss.backward()
    gradients = {name: one.grad.flatten() for name, one in student.model.named_parameters()}
    gradients |= {f"projections.{name}.weight": one.grad.flatten() for name, one in maps.items()}
    return Outcome(loss.item(), float(torch.cat(list(gradients.values())).norm()), gradients)


def states_of(model: nn.Module, batch: Batch) -> dict[int | str, Tensor]:
    """Behind each layer, counted from 1; `last` after the final norm."""
    states: dict[int | str, Tensor] = {}
    hidden = model.model.embed_tokens(batch.input_ids)
    positions = model.model.rotary_emb(hidden, batch.positions)
    length = hidden.shape[1]
    for number, layer in enumerate(model.model.layers, start=1):
        hidden = layer(
            hidden, attention_mask=torch.ones(length, length).tril().bool()[None, None], position_embeddings=positions
        )
        states[number] = hidden
    return states | {"last": model.model.norm(hidden)}


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
