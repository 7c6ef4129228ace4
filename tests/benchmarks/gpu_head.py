"""The head of a distillation step alone on a GPU: each loss by the fused kernel, by PyTorch's operations, and by Liger.

    python tests/benchmarks/gpu_head.py [--rounds 9]

8,192 tokens x (2,048, 4,096) x 128,256 in bfloat16, forward and backward. Times are medians of rounds without
pauses, so of a card under load. Memory is the peak beyond what was there, less the outputs (gradients by hidden states
and weight) and the float32 sum of the latter, which the last column has. Errors are relative, against float64. The
first line is an 8192^3 product under the same load: the four products of the forward KL are 21.5 TFLOP.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from chunked_head import SHAPES, Inputs, error, exact_gradients, make_inputs

from espalier.objectives import chunked
from espalier.objectives.chunked import head_objective
from espalier.objectives.terms import Term

KL, CE = Term.of("forward_kl"), Term.of("cross_entropy")
LOSSES = {
    "forward_kl": (KL,),
    "reverse_kl": (Term.of("reverse_kl"),),
    "jsd": (Term.of("jsd"),),
    "skewed_forward_kl": (Term.of("skewed_forward_kl"),),
    "skewed_reverse_kl": (Term.of("skewed_reverse_kl"),),
    "cross_entropy": (CE,),
    "cross_entropy + forward_kl": (CE, KL),
    "cross_entropy + forward_kl at 2": (CE, Term.of("forward_kl", temperature=2.0)),
}
_FUSED = chunked.fused_terms


def ours(terms: tuple[Term, ...], inputs: Inputs, *, fused: bool) -> None:
    """Forward and backward through the product's function."""
    chunked.fused_terms = _FUSED if fused else lambda *_, **__: None
    scales = [1.0 / len(inputs.hidden)] * len(terms)
    head_objective(inputs.hidden, inputs.weight, targets=inputs.targets(), terms=terms, scales=scales).total.backward()


def liger(inputs: Inputs, *, hard: float) -> None:
    """Liger's chunked head: forward KL, with cross-entropy where `hard` is not 0."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=hard, weight_soft_loss=1.0 - hard, beta=0.0)
    teacher = inputs.teacher_hidden, inputs.teacher_weight
    loss(inputs.hidden, inputs.weight, *teacher, inputs.targets().labels).backward()


def milliseconds(run: Callable[[], object], rounds: int) -> float:
    """The median, after a third of the rounds to warm up."""
    times = []
    for _ in range(rounds + rounds // 3):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times[rounds // 3 :])


def row(name: str, run: Callable[[Inputs], None], inputs: Inputs, *, rounds: int, errors: str = "") -> None:
    """Print time and memory of one way."""

    def once() -> None:
        inputs.hidden.grad = inputs.weight.grad = None
        run(inputs)

    once()  # compiles
    inputs.hidden.grad = inputs.weight.grad = None
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    once()
    torch.cuda.synchronize()
    outputs = 2 * (inputs.hidden.numel() + inputs.weight.numel())
    wide = 4 * inputs.weight.numel()
    extra = torch.cuda.max_memory_allocated() - before - outputs - wide
    print(f"{name:44}{milliseconds(once, rounds):8.2f}{extra / 2**30:9.2f}{wide / 2**30:9.2f}{errors}", flush=True)


def errors_of(run: Callable[[Inputs], None], inputs: Inputs, right: tuple[torch.Tensor, torch.Tensor]) -> str:
    """Relative errors of the gradients of the sum over tokens."""
    inputs.hidden.grad = inputs.weight.grad = None
    run(inputs)
    got = (inputs.hidden.grad, inputs.weight.grad)
    return "".join(f"{error(len(inputs.hidden) * a.double(), b):12.5f}" for a, b in zip(got, right, strict=True))


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    inputs = make_inputs("cuda")
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rate = 2 * 8192**3 / milliseconds(lambda: left @ right, 60) / 1e9
    print(torch.cuda.get_device_name(), torch.__version__, SHAPES["cuda"], f"product under load {rate:.0f} TFLOP/s")
    print(f"{'':44}{'ms':>8}{'GiB':>9}{'float32':>9}{'d hidden':>12}{'d weight':>12}")
    exact = exact_gradients(inputs)
    for name, terms in LOSSES.items():
        for way, fused in (("fused", True), ("operations", False)):
            run = partial(ours, terms, fused=fused)
            row(
                f"{name}, {way}",
                run,
                inputs,
                rounds=rounds,
                errors=errors_of(run, inputs, exact) if terms == (KL,) else "",
            )
    for hard, name in ((0.0, "forward_kl"), (0.5, "cross_entropy + forward_kl")):
        row(f"{name}, Liger", partial(liger, hard=hard), inputs, rounds=rounds)


if __name__ == "__main__":
    main()
