"""Whole distillation steps through the engine on one GPU: tokens/s, peak memory, and which kernels the time goes to.

    python tests/benchmarks/gpu_step.py [--steps 6] [--microbatch 2] [--document 600] [--profile] [--cases CASE ...]

Teacher of 3.21 B, student of 1.24 B parameters (the shapes of Llama 3.2, vocabulary 128,256), random weights drawn on
the GPU, 8 sequences of 4,096 tokens a step, zero_level none, bfloat16 with float32 masters. `plain` cases compute the
loss by PyTorch's operations instead of the fused kernel. Nothing is read from disk.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import closing, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from espalier.config.training import OptimizerConfig
from espalier.data.batch import Batch
from espalier.distributed.world import World
from espalier.engine.frozen import FrozenModel
from espalier.engine.objective import TokenObjective
from espalier.engine.open import EngineSpec, open_engine
from espalier.models.families import layout
from espalier.models.flops import trained_flops
from espalier.objectives import chunked
from espalier.objectives.terms import Term
from espalier.training.step import take_step

SEQUENCES, TOKENS, VOCABULARY, WARM_STEPS = 8, 4096, 128_256, 2
KL, CE = (Term.of("forward_kl"),), (Term.of("cross_entropy"),)
CASES: dict[str, tuple[tuple[Term, ...], bool]] = {  # terms, whether the fused kernel is used
    "forward_kl": (KL, True),
    "forward_kl, plain": (KL, False),
    "ce + forward_kl": (CE + KL, True),
    "ce + forward_kl, plain": (CE + KL, False),
    "cross_entropy": (CE, True),
    "cross_entropy, plain": (CE, False),
}


def llama(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """A model of the family of Llama 3.2."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": 8192,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": hidden // heads,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }


TEACHER, STUDENT = llama(3072, 28, 24), llama(2048, 16, 32)


class RandomValues:
    """A committed state that was never written: values are drawn by name."""

    def __init__(self, model: dict[str, Any], device: torch.device) -> None:
        self.manifest = SimpleNamespace(origin=SimpleNamespace(model=model))
        self._shapes, self._device = {name: one.shape for name, one in layout(model).items()}, device

    def tensor(self, slot: str, name: str) -> Tensor:
        shape = self._shapes[name]
        draw = torch.Generator(self._device).manual_seed(sum(name.encode()))
        drawn = torch.randn(shape, generator=draw, device=self._device)
        return 1.0 + 0.0 * drawn if len(shape) == 1 else 0.02 * drawn


def batches(microbatch: int, document: int | None, step: int) -> list[Batch]:
    """The microbatches of a step: random tokens, whole rows or documents of this many tokens packed into them."""
    draw = torch.Generator().manual_seed(step)
    positions = torch.arange(TOKENS).expand(microbatch, -1)
    documents = None
    if document is not None:
        documents, positions = positions // document, positions % document
    found = []
    for _ in range(SEQUENCES // microbatch):
        ids = torch.randint(VOCABULARY, (microbatch, TOKENS), generator=draw)
        labels = ids.roll(-1, dims=1)
        found.append(Batch(ids, labels, positions, documents, torch.arange(microbatch), torch.ones(microbatch)))
    return found


def measure(terms: tuple[Term, ...], asked: argparse.Namespace, world: World) -> None:
    """Print one row, and with `--profile` the kernels of a step."""
    objective, seconds, losses = TokenObjective(terms), [], []
    spec = EngineSpec("none", torch.bfloat16, OptimizerConfig(lr=1e-5), SEQUENCES // asked.microbatch)
    student: Any = RandomValues(STUDENT, world.device)
    with_teacher = any(term.needs_teacher for term in terms)
    torch.cuda.reset_peak_memory_stats()
    teacher = _teacher(world) if with_teacher else None
    with (
        closing(teacher) if teacher else nullcontext(),
        closing(open_engine(spec, objective, student, steps_taken=0, world=world)) as engine,
    ):

        def step(number: int) -> None:
            given = batches(asked.microbatch, asked.document, number)
            torch.cuda.synchronize()
            began = time.perf_counter()
            settings: dict[str, Any] = {"lr": 1e-5, "random": (0, number), "world": world}
            losses.append(take_step(engine, teacher, given, objective=objective, **settings).loss)
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)

        for number in range(asked.steps):
            step(number)
        _row(statistics.median(seconds[WARM_STEPS:]), losses, with_teacher=with_teacher)
        if asked.profile:
            print_kernels(lambda: step(asked.steps))


def _teacher(world: World) -> FrozenModel:
    reader: Any = RandomValues(TEACHER, world.device)
    return FrozenModel(reader, zero_level="none", dtype=torch.bfloat16, world=world)


def _row(seconds: float, losses: list[float], *, with_teacher: bool) -> None:
    tokens = SEQUENCES * TOKENS
    flops = trained_flops(STUDENT, tokens=tokens, sequence_tokens=TOKENS, part=None)
    flops += with_teacher * trained_flops(TEACHER, tokens=tokens, sequence_tokens=TOKENS, part=None) / 3
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(
        f"{tokens / seconds:9,.0f}{1e3 * seconds:10.1f}{flops / seconds / 1e12:10.0f}{peak:9.1f}"
        f"{losses[0]:11.4f}{losses[-1]:11.4f}",
        flush=True,
    )


def print_kernels(run: Callable[[], None], *, rows: int = 30) -> None:
    """The kernels of one call by the time that they take together, and how long the GPU had none."""
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as found:
        run()
    kernels = sorted(found.key_averages(), key=lambda one: -one.self_device_time_total)
    busy = sum(one.self_device_time_total for one in kernels) / 1e3
    print(f"    kernels {busy:.1f} ms, of {1e3 * (time.perf_counter() - began):.1f} ms with the profiler's own work")
    for one in kernels[:rows]:
        total = one.self_device_time_total / 1e3
        print(f"    {total:8.2f} ms {total / busy:6.1%} {one.count:6} x  {one.key[:110]}")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--microbatch", type=int, default=2)
    parser.add_argument("--document", type=int)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    asked = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__, f"microbatch {asked.microbatch}, document {asked.document}")
    print("case                       tokens/s   ms/step  TFLOP/s      GiB  first loss  last loss")
    fused = chunked.fused_terms
    for case in asked.cases:
        terms, with_kernel = CASES[case]
        chunked.fused_terms = fused if with_kernel else lambda *_, **__: None
        gc.collect()
        torch.cuda.empty_cache()
        print(f"{case:24}", end="", flush=True)
        measure(terms, asked, World(0, 1, torch.device("cuda", 0)))


if __name__ == "__main__":
    main()
