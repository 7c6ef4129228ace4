"""The class that must agree: one step under every engine, number of ranks and split, on the same eight sequences."""

from __future__ import annotations

from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from espalier.checkpoint.read import StateReader
from espalier.config.training import OptimizerConfig, ZeroLevel
from espalier.data.batch import NO_LABEL, Batch
from espalier.distributed.world import World
from espalier.engine.frozen import FrozenModel
from espalier.engine.hidden_states import objective_of
from espalier.engine.objective import LogProbabilityObjective, Objective, TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.models.projections import projections_of
from espalier.objectives.hidden_states import teacher_layers
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from espalier.training.step import take_step
from support.models import LLAMA, save_initial

NUM_SEQUENCES, LENGTH = 8, 13
BETA = 0.9
_NO_CLIP = OptimizerConfig(lr=1e-3, betas=(BETA, 0.95), clip=1e9)
TEACHER = {
    **LLAMA,
    "hidden_size": 48,
    "head_dim": 8,
    "tie_word_embeddings": False,
}  # wider, with a head of its own
ODD = {
    **LLAMA,
    "hidden_size": 3,
    "intermediate_size": 1,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": 2,
}  # 435 parameters: an odd number, in tensors smaller than any partition is meant for


@dataclass(frozen=True)
class Case:
    """One way to take the same step.

    Attributes:
        microbatch: in sequences.
        pairs: the loss of preference pairs instead of one of tokens.
        terms: what the loss is, if not the usual.
    """

    zero_level: ZeroLevel
    microbatch: int
    tied: bool = True
    odd: bool = False
    teacher: str | None = None
    checkpointing: bool = False
    dtype: torch.dtype = torch.float32
    pairs: bool = False
    terms: tuple[Term, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a step gave: its loss, its gradient norm, and gradients by parameter, from all ranks."""

    loss: float
    norm: float
    gradients: dict[str, Tensor]


def save_models(root: Path) -> None:
    """Students with tied and untied heads, one of an odd size, and a teacher, under `root`."""
    save_initial(root, "tied", LLAMA, seed=1)
    save_initial(root, "untied", {**LLAMA, "tie_word_embeddings": False}, seed=1)
    save_initial(root, "teacher", TEACHER, seed=2)
    save_initial(root, "odd", ODD, seed=1)


def steps_of(world: World, root: str, cases: list[Case]) -> list[tuple[float, float, list[Any]]]:
    """On every rank: loss, norm and this rank's first moments of each case."""
    return [_step(world, LocalStorage(Path(root)), case) for case in cases]


def join(ranks: list[list[tuple[float, float, list[Any]]]]) -> list[Outcome]:
    """Put the ranks' pieces of every case together."""
    outcomes = []
    for parts in zip(*ranks, strict=True):
        pieces: dict[str, list[tuple[int, Tensor]]] = {}
        for _, _, fragments in parts:
            for name, offset, values in fragments:
                pieces.setdefault(name, []).append((offset, values))
        gradients = {name: torch.cat([v for _, v in sorted(found)]) for name, found in pieces.items()}
        outcomes.append(Outcome(parts[0][0], parts[0][1], gradients))
    return outcomes


def difference(one: Outcome, other: Outcome) -> float:
    """The largest relative difference in loss, norm, or any parameter's gradient."""
    found = [figures_apart(one, other)]
    assert one.gradients.keys() == other.gradients.keys()
    for name, gradient in other.gradients.items():
        found.append(float((one.gradients[name] - gradient).norm() / gradient.norm()))
    return max(found)


def figures_apart(one: Outcome, other: Outcome) -> float:
    """The largest relative difference in loss and norm."""
    return max(abs(one.loss - other.loss) / abs(other.loss), abs(one.norm - other.norm) / other.norm)


def sequences_of(microbatch: int, world: World, *, padded: bool = False) -> list[Batch]:
    """This rank's microbatches; lengths are uneven, so that equal shares of sequences are unequal shares of tokens.

    Args:
        padded: whether the batch says so of what stands behind a sequence.
    """
    draw = torch.Generator().manual_seed(7)
    ids = torch.randint(0, LLAMA["vocab_size"], (NUM_SEQUENCES, LENGTH), generator=draw)
    labels = ids.roll(-1, dims=1)
    for row, length in enumerate((1, 12, 2, 9, 12, 3, 7, 5)):
        labels[row, length:] = NO_LABEL
    chunks = torch.arange(NUM_SEQUENCES).split(microbatch)[world.rank :: world.size]
    return [_batch(ids[rows], labels[rows], rows, padded=padded) for rows in chunks]


def _batch(ids: Tensor, labels: Tensor, rows: Tensor, *, padded: bool) -> Batch:
    positions = torch.arange(LENGTH).expand(len(rows), -1)
    documents = torch.where(positions <= (labels != NO_LABEL).sum(1, keepdim=True), 0, -1) if padded else None
    return Batch(ids, labels, positions, documents, rows, 0.5 + rows / NUM_SEQUENCES)


def _step(world: World, storage: LocalStorage, case: Case) -> tuple[float, float, list[Any]]:
    reader = StateReader.open(storage, "odd" if case.odd else "tied" if case.tied else "untied")
    objective = PAIRS if case.pairs else _tokens(case)
    microbatches = sequences_of(case.microbatch, world, padded=bool(case.terms))
    beside = projections_of([term.settings for term in case.terms], reader.manifest.origin.model, TEACHER)
    spec = EngineSpec(case.zero_level, case.dtype, _NO_CLIP, len(microbatches), case.checkpointing, beside)
    teacher = _teacher(storage, case, world)
    with (
        closing(teacher) if teacher else nullcontext(),
        closing(open_engine(spec, objective, reader, steps_taken=0, world=world)) as engine,
    ):
        report = take_step(engine, teacher, microbatches, objective=objective, lr=0.0, random=(0, 0), world=world)
        moments = [
            (fragment.name, fragment.offset, fragment.values.cpu() / (1 - BETA))
            for fragment in engine.fragments()
            if fragment.slot == "exp_avg"
        ]
    return report.loss, report.gradient_norm, moments


def _tokens(case: Case) -> Objective:
    if case.terms:
        return objective_of(case.terms)
    terms = (
        (Term.of("forward_kl"), Term.of("cross_entropy", weight=0.3)) if case.teacher else (Term.of("cross_entropy"),)
    )
    return TokenObjective(terms)


def preference_sums(log_probabilities: Tensor, reference: Tensor | None, batch: Batch) -> Tensor:
    """DPO (arXiv 2305.18290, equation 7) over rows 2i, preferred, and 2i + 1; and the preferred rows' own likelihood.

    The second term counts tokens where the first counts pairs.
    """
    assert reference is not None
    gain = (log_probabilities - reference).sum(1)
    margin = 0.7 * (gain[0::2] - gain[1::2])
    likelihood = -(log_probabilities[0::2] * batch.sample_weights[0::2, None]).sum()
    return torch.stack([-torch.nn.functional.logsigmoid(margin).sum(), likelihood])


PAIRS = LogProbabilityObjective(
    names=("preference", "likelihood"),
    weights=(1.0, 0.2),
    loss=preference_sums,
    count=lambda batch: (len(batch.labels) // 2, int(batch.token_mask[0::2].sum())),
)


def _teacher(storage: LocalStorage, case: Case, world: World) -> FrozenModel | None:
    if case.teacher is None:
        return None
    reader = StateReader.open(storage, "teacher")
    layers = teacher_layers(case.terms)
    return FrozenModel(reader, zero_level=case.teacher, dtype=torch.float32, world=world, layers=layers)
