"""Training a part of a model or low-rank adapters, in a naive loop of plain torch and through engines that save and go
on elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Parameter

from espalier.checkpoint.manifest import Origin
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.write import RankFiles, begin, commit, write_fragments
from espalier.config.training import OptimizerConfig, TuneConfig, ZeroLevel
from espalier.data.batch import NO_LABEL, Batch
from espalier.distributed.streams import stream_seed
from espalier.distributed.world import World
from espalier.engine.contract import Engine
from espalier.engine.objective import TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.models.build import build_initialised
from espalier.models.families import tuned_names
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from espalier.training.step import take_step
from support.architectures import CONFIGS
from support.lora_plugin.espalier_lora.adapter import LowRank
from support.models import LLAMA, save_initial

INITIAL = "stages/parent/step-00000000"
SEED, ROWS, LENGTH = 3, 8, 13
_NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
_NO_DROPOUT_BERT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODELS = {
    "llama": LLAMA,
    "gpt2": CONFIGS["gpt2"] | _NO_DROPOUT,
    "bert": CONFIGS["bert_masked_lm"] | _NO_DROPOUT_BERT,
}
PATTERNS = {
    "llama": ("*.q_proj.*", "*.v_proj.*", "*norm*"),
    "gpt2": ("*.c_attn.*", "*.ln_*"),  # its query, key and value are one matrix
    "bert": ("*.query.*", "*.value.*", "*.LayerNorm.*"),
}
# A large eps: what a key's bias gets is rounding alone, as softmax cancels it, and Adam would blow that up.
OPTIMIZER = OptimizerConfig(lr=3e-3, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1, clip=0.5)
OBJECTIVE = TokenObjective((Term.of("cross_entropy"),))


@dataclass(frozen=True)
class Part:
    """Some steps of one model at one level, from one committed state to the next.

    Attributes:
        patterns: of the parameters of the model that are trained.
        steps: (first, behind the last).
        adapters: trained beside them.
    """

    model: str
    patterns: tuple[str, ...]
    zero_level: ZeroLevel
    source: str
    target: str
    steps: tuple[int, int]
    checkpointing: bool = False
    dtype: torch.dtype = torch.float32
    adapters: LowRank | None = None


def trained(model: str, patterns: Sequence[str]) -> frozenset[str]:
    if not patterns:
        return frozenset()
    names = tuned_names(MODELS[model], TuneConfig(only=tuple(patterns)))
    assert names is not None
    return names


def save_parents(root: Path) -> None:
    for name, config in MODELS.items():
        save_initial(root / name, INITIAL, config, seed=SEED)


def rows_of(model: str, step: int) -> tuple[Tensor, Tensor]:
    """[ROWS, LENGTH] ids and labels of a step; rows have uneven numbers of labels."""
    draw = torch.Generator().manual_seed(100 + step)
    ids = torch.randint(0, MODELS[model]["vocab_size"], (ROWS, LENGTH), generator=draw)
    labels = ids.roll(-1, dims=1)
    for row, length in enumerate((1, 12, 2, 9, 12, 3, 7, 5)):
        labels[row, length:] = NO_LABEL
    return ids, labels


def naive(model: str, patterns: Sequence[str], *, steps: int, adapters: LowRank | None = None) -> dict[str, Tensor]:
    """Every parameter after some steps of the stock model in plain torch, from whole logits.

    Adapted matrices are W + scale * B A in each forward pass.
    """
    stock, names = build_initialised(MODELS[model], seed=SEED).train(), trained(model, patterns)
    held = dict(stock.named_parameters()) | first_adapters(adapters)
    chosen = {name: held[name] for name in held if name in names or "lora_" in name}
    groups = [
        {
            "params": [one],
            "weight_decay": OPTIMIZER.weight_decay if one.dim() > 1 else 0.0,
            "lr": OPTIMIZER.lr * (adapters.up_rate if adapters and "lora_b" in name else 1.0),
        }
        for name, one in chosen.items()
    ]
    optimizer = torch.optim.AdamW(groups, betas=OPTIMIZER.betas, eps=OPTIMIZER.eps)
    for step in range(steps):
        ids, labels = rows_of(model, step)
        logits = functional_call(stock, adapted(held, adapters), kwargs={"input_ids": ids}).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=NO_LABEL)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(chosen.values(), OPTIMIZER.clip)
        optimizer.step()
    return {name: value.detach() for name, value in held.items()}


def first_adapters(adapters: LowRank | None) -> dict[str, Parameter]:
    """The parameters of adapters before the first step."""
    if adapters is None:
        return {}
    draws = {name: torch.Generator().manual_seed(stream_seed(SEED, f"added {name}")) for name in adapters.parameters}
    return {name: Parameter(adapters.first_value(name, draw)) for name, draw in draws.items()}


def adapted(held: Mapping[str, Tensor], adapters: LowRank | None) -> dict[str, Tensor]:
    """The matrices that adapters change, by name."""
    found = {}
    for target in adapters.targets if adapters else ():
        up, down = (held[target.replace(".weight", f".lora_{which}.weight")] for which in "ba")
        change = adapters.scale * up @ down
        found[target] = held[target] + (change.t() if "c_attn" in target else change)
    return found


def carry_out(world: World, root: str, parts: list[Part]) -> list[list[float]]:
    """On every rank: the losses of each part, whose state is then saved by all ranks together."""
    return [_carry_out(world, LocalStorage(Path(root, part.model)), part) for part in parts]


def _carry_out(world: World, storage: LocalStorage, part: Part) -> list[float]:
    reader, names = StateReader.open(storage, part.source), trained(part.model, part.patterns)
    first, end = part.steps
    microbatches = [microbatches_of(part.model, step, world) for step in range(first, end)]
    added = (part.adapters,) if part.adapters else ()
    spec = EngineSpec(
        part.zero_level, part.dtype, OPTIMIZER, len(microbatches[0]), part.checkpointing, added, names, SEED
    )
    with closing(open_engine(spec, OBJECTIVE, reader, steps_taken=first, world=world)) as engine:
        losses = []
        for step in range(first, end):
            own = microbatches[step - first]
            report = take_step(engine, None, own, objective=OBJECTIVE, lr=OPTIMIZER.lr, random=(0, step), world=world)
            losses.append(report.loss)
        _save(world, storage, part, engine)
    return losses


def microbatches_of(model: str, step: int, world: World) -> list[Batch]:
    ids, labels = rows_of(model, step)
    places = torch.arange(ROWS).split(2)[world.rank :: world.size]
    return [_batch(ids[rows], labels[rows], rows) for rows in places]


def _batch(ids: Tensor, labels: Tensor, rows: Tensor) -> Batch:
    return Batch(ids, labels, torch.arange(LENGTH).expand(len(rows), -1), None, rows, torch.ones(len(rows)))


def _save(world: World, storage: LocalStorage, part: Part, engine: Engine) -> None:
    parent, names = StateReader.open(storage, INITIAL), trained(part.model, part.patterns)
    if world.is_rank_zero:
        begin(storage, part.target, attempt=1)
    world.barrier()
    written = write_fragments(storage, part.target, fragments=engine.fragments(), rank=world.rank, attempt=1)
    ranks = [RankFiles.from_bytes(one) for one in world.gather_on_rank_zero(written.to_bytes())]
    if world.is_rank_zero:
        step, config = part.steps[1], MODELS[part.model]
        origin = Origin(
            stage="tuned", step=step, attempt=1, world_size=world.size, zero_level=part.zero_level, model=config
        )
        bases = parent.bases_without(names)
        beside = {name: one.shape for name, one in part.adapters.parameters.items()} if part.adapters else {}
        commit(
            storage,
            part.target,
            origin=origin,
            shapes=parent.shapes,
            state={},
            ranks=ranks,
            bases=bases,
            beside=beside,
        )
    world.barrier()


def bytes_of(storage: LocalStorage, folder: str) -> int:
    """Of all files of a state."""
    return sum(storage.num_bytes(f"{folder}/{name}") for name in storage.list(folder))


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor], names: Iterable[str]) -> float:
    """Relative, of any of these parameters."""
    return max(float((one[name] - other[name]).norm() / other[name].norm()) for name in names)
