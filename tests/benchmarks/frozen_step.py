"""What a step costs that trains a part of a model, beside one that trains all of it: a 135 M Llama shape on the CPU.

    python tests/benchmarks/frozen_step.py [--steps 5] [--sequences 4] [--tokens 256] [--threads 1]

Weights are random; nothing is downloaded. The 1 % is spread over all layers, so that backward goes all the way down:
what is saved are the products for gradients of weights, and the optimizer's work. The fastest step counts, and beside
its seconds the processor's, which others on the same machine do not lengthen.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from espalier.checkpoint.fragments import Fragment
from espalier.checkpoint.manifest import Origin
from espalier.checkpoint.read import StateReader
from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.config.training import OptimizerConfig, TuneConfig
from espalier.data.batch import Batch
from espalier.distributed.world import World
from espalier.engine.objective import TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.models.build import build_initialised
from espalier.models.families import layout, tuned_names
from espalier.models.flops import trained_flops
from espalier.models.trained_part import TrainedPart
from espalier.objectives.terms import Term
from espalier.storage.local import LocalStorage
from espalier.training.step import take_step

MODEL = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
PARTS: dict[str, tuple[str, ...] | None] = {
    "all": None,
    "1 % (keys, norms)": ("*[0369].self_attn.k_proj.*", "*norm*"),
    "1 % (low-rank maps)": (),  # of rank 24, beside the queries and values of every layer
    "norms": ("*norm*",),
    "last 3 layers": ("*.27.*", "*.28.*", "*.29.*", "model.norm.*"),
}
OPTIMIZER = OptimizerConfig(lr=1e-4)
OBJECTIVE = TokenObjective((Term.of("cross_entropy"),))
FOLDER = "stages/parent/step-00000000"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--sequences", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as root:
        reader = save_model(Path(root))
        print("trained               parameters   share   s/step   to all   CPU s/step   to all   FLOPs to all")
        seconds: dict[str, tuple[float, float]] = {}
        flops: dict[str, float] = {}
        for name, patterns in PARTS.items():
            part = part_of(patterns)
            seconds[name] = _seconds(reader, part, asked)
            flops[name] = trained_flops(MODEL, tokens=1, sequence_tokens=asked.tokens, part=part)
            whole = sum(one.num_elements for one in layout(MODEL).values())
            count = whole if part is None else part.num_parameters
            share = count / whole
            (wall, cpu), (wall_of_all, cpu_of_all) = seconds[name], seconds["all"]
            ratios = f"{wall:9.2f}{wall / wall_of_all:9.2f}{cpu:13.2f}{cpu / cpu_of_all:9.2f}"
            print(f"{name:20}{count:13,}{share:8.2%}{ratios}{flops[name] / flops['all']:15.2f}", flush=True)


def part_of(patterns: tuple[str, ...] | None) -> TrainedPart | None:
    """What is trained; None for all of the model, and low-rank maps for no pattern."""
    if patterns is None:
        return None
    if patterns:
        return TrainedPart.of(MODEL, tuned_names(MODEL, TuneConfig(only=patterns)) or ())
    sys.path.insert(0, str(Path(__file__).parents[1] / "support" / "lora_plugin"))
    from espalier_lora.adapter import LowRank

    targets = tuple(name for name in layout(MODEL) if "q_proj" in name or "v_proj" in name)
    return TrainedPart.of(MODEL, (), [LowRank(MODEL, targets, rank=24, scale=1.0)])


def save_model(root: Path) -> StateReader:
    """A committed state of random weights."""
    model, storage = build_initialised(MODEL, seed=1), LocalStorage(root)
    named = dict(model.named_parameters())
    begin(storage, FOLDER, attempt=0)
    fragments = (Fragment("parameter", name, 0, value.detach().reshape(-1)) for name, value in named.items())
    written = write_fragments(storage, FOLDER, fragments=fragments, rank=0, attempt=0)
    origin = Origin(stage="parent", step=0, attempt=0, world_size=1, zero_level="none", model=MODEL)
    shapes = {name: tuple(value.shape) for name, value in named.items()}
    commit(storage, FOLDER, origin=origin, shapes=shapes, state={}, ranks=[written])
    return StateReader.open(storage, FOLDER, verify=False)


def _seconds(reader: StateReader, part: TrainedPart | None, asked: argparse.Namespace) -> tuple[float, float]:
    """The least of the steps after the first, by the clock and of the processor."""
    world, times = World(0, 1, torch.device("cpu")), []
    spec = EngineSpec("none", torch.float32, OPTIMIZER, 1)
    if part is not None:
        spec = replace(spec, additions=part.additions, trained=part.names)
    with closing(open_engine(spec, OBJECTIVE, reader, steps_taken=0, world=world)) as engine:
        for step in range(asked.steps + 1):
            batch, began = batch_of(asked.sequences, asked.tokens, step), (time.perf_counter(), time.process_time())
            take_step(engine, None, [batch], objective=OBJECTIVE, lr=1e-4, random=(0, step), world=world)
            times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return min(wall for wall, _ in times[1:]), min(cpu for _, cpu in times[1:])


def batch_of(sequences: int, tokens: int, step: int) -> Batch:
    """Random tokens; the next one is each one's label."""
    draw = torch.Generator().manual_seed(step)
    ids = torch.randint(0, MODEL["vocab_size"], (sequences, tokens), generator=draw)
    positions = torch.arange(tokens).expand(sequences, -1)
    return Batch(ids, ids.roll(-1, dims=1), positions, None, torch.arange(sequences), torch.ones(sequences))


if __name__ == "__main__":
    main()
