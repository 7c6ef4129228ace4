"""Memory, time and accuracy of the chunked forward_kl, forward and backward, against whole logits.

    python tests/benchmarks/chunked_head.py [--device cpu|cuda] [--rounds 5]

Three plain ways stand beside it, each with all logits at once: `log_softmax` of both models and `kl_div`, as
most trainers write it; the same with fewer passes (the teacher's entropy apart, no target log-probabilities
kept); and the closed-form gradient without autograd. Times are the best of interleaved rounds in one process.
Memory is the growth of the peak over what inputs take, gradients included: on a CPU of the resident set, in a
process of its own; on a GPU of what the allocator handed out. Errors are relative, over all entries, against
float64.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from espalier.objectives.chunked import Targets, head_objective
from espalier.objectives.signal import Signal
from espalier.objectives.terms import Term

SHAPES = {"cpu": (1024, 256, 256, 32_000), "cuda": (8192, 2048, 4096, 128_256)}
DTYPES = {"cpu": torch.float32, "cuda": torch.bfloat16}


@dataclass(frozen=True)
class Inputs:
    hidden: Tensor
    weight: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor

    def targets(self) -> Targets:
        device, num_tokens = self.hidden.device, len(self.hidden)
        labels = torch.zeros(num_tokens, dtype=torch.int64, device=device)
        signal = Signal(self.teacher_hidden, self.teacher_weight)
        return Targets(labels, torch.ones(num_tokens, device=device), signal)


def make_inputs(device: str) -> Inputs:
    """Student and teacher whose logits have a spread of about 2."""
    tokens, width, teacher_width, vocabulary = SHAPES[device]
    torch.manual_seed(17)

    def normal(*shape: int, spread: float) -> Tensor:
        return (torch.randn(*shape, device=device) * spread).to(DTYPES[device])

    return Inputs(
        normal(tokens, width, spread=1.0).requires_grad_(),
        normal(vocabulary, width, spread=2 * width**-0.5).requires_grad_(),
        normal(tokens, teacher_width, spread=1.0),
        normal(vocabulary, teacher_width, spread=2 * teacher_width**-0.5),
    )


def chunked(inputs: Inputs) -> None:
    loss = head_objective(
        inputs.hidden, inputs.weight, targets=inputs.targets(), terms=[Term.of("forward_kl")], scales=[1.0]
    )
    loss.total.backward()


def plain(inputs: Inputs) -> None:
    log_q = functional.log_softmax((inputs.hidden @ inputs.weight.t()).float(), -1)
    with torch.no_grad():
        log_p = functional.log_softmax((inputs.teacher_hidden @ inputs.teacher_weight.t()).float(), -1)
    functional.kl_div(log_q, log_p, reduction="sum", log_target=True).backward()


def plain_fewer_passes(inputs: Inputs) -> None:
    with torch.no_grad():
        p = functional.softmax((inputs.teacher_hidden @ inputs.teacher_weight.t()).float(), -1)
        negative_entropy = -torch.special.entr(p).sum()
    log_q = functional.log_softmax((inputs.hidden @ inputs.weight.t()).float(), -1)
    (negative_entropy - (p * log_q).sum()).backward()


@torch.no_grad()
def plain_closed_form(inputs: Inputs) -> None:
    log_q = functional.log_softmax((inputs.hidden @ inputs.weight.t()).float(), -1)
    log_p = functional.log_softmax((inputs.teacher_hidden @ inputs.teacher_weight.t()).float(), -1)
    p = log_p.exp()
    log_p.sub_(log_q).mul_(p).sum()  # the value
    difference = log_q.exp_().sub_(p).to(inputs.hidden.dtype)
    inputs.hidden.grad = difference @ inputs.weight
    inputs.weight.grad = difference.t() @ inputs.hidden


def liger(inputs: Inputs) -> None:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=0.0)
    student, teacher = (inputs.hidden, inputs.weight), (inputs.teacher_hidden, inputs.teacher_weight)
    mean = loss(*student, *teacher, inputs.targets().labels)
    (mean * len(inputs.hidden)).backward()


def ways(device: str) -> dict[str, Callable[[Inputs], None]]:
    found = {
        "chunked": chunked,
        "plain": plain,
        "fewer passes": plain_fewer_passes,
        "closed form": plain_closed_form,
    }
    if device == "cuda" and importlib.util.find_spec("liger_kernel"):
        found["liger"] = liger
    return found


def run(way: Callable[[Inputs], None], inputs: Inputs) -> tuple[Tensor, Tensor]:
    inputs.hidden.grad = inputs.weight.grad = None
    way(inputs)
    return inputs.hidden.grad, inputs.weight.grad


def seconds(way: Callable[[Inputs], None], inputs: Inputs) -> float:
    wait = torch.cuda.synchronize if inputs.hidden.is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    run(way, inputs)
    wait()
    return time.perf_counter() - start


def exact_gradients(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """In float64 by autograd, 256 tokens at a time."""
    hidden = inputs.hidden.detach().double().requires_grad_()
    weight, teacher_weight = inputs.weight.detach().double().requires_grad_(), inputs.teacher_weight.double()
    for start in range(0, len(hidden), 256):
        part = slice(start, start + 256)
        log_q = functional.log_softmax(hidden[part] @ weight.t(), -1)
        log_p = functional.log_softmax(inputs.teacher_hidden[part].double() @ teacher_weight.t(), -1)
        functional.kl_div(log_q, log_p, reduction="sum", log_target=True).backward()
    return hidden.grad, weight.grad


def error(got: Tensor, right: Tensor) -> float:
    return float((got.double() - right).norm() / right.norm())


def peak_bytes_cuda(way: Callable[[Inputs], None], inputs: Inputs) -> int:
    inputs.hidden.grad = inputs.weight.grad = None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    way(inputs)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def peak_bytes_cpu(name: str) -> int:
    """In a process of its own: the peak of its resident set in one run, over what stood before."""
    command = [sys.executable, __file__, "--peak-of", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_own_peak(name: str) -> None:
    inputs = make_inputs("cpu")
    small = Inputs(*(x.detach()[:64].requires_grad_(x.requires_grad) for x in vars(inputs).values()))
    run(ways("cpu")[name], small)  # loads the libraries and starts the threads
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status_bytes("VmRSS")
    run(ways("cpu")[name], inputs)
    print(_status_bytes("VmHWM") - before)


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(device: str, *, rounds: int) -> list[dict[str, float | str]]:
    inputs, found = make_inputs(device), ways(device)
    right, rows = exact_gradients(inputs), []
    for name, way in found.items():
        hidden, weight = run(way, inputs)
        peak = peak_bytes_cuda(way, inputs) if device == "cuda" else peak_bytes_cpu(name)
        errors = {"hidden error": error(hidden, right[0]), "weight error": error(weight, right[1])}
        rows.append({"way": name, "MiB": peak / 2**20} | errors)
    if device == "cuda":
        return _timed(rows, found, inputs, rounds=rounds, threads=(0,))
    return _timed(rows, found, inputs, rounds=rounds, threads=(1, 2))


def _timed(rows, found, inputs, *, rounds: int, threads: tuple[int, ...]) -> list[dict[str, float | str]]:
    for count in threads:
        if count:
            torch.set_num_threads(count)
        times = [[seconds(way, inputs) for way in found.values()] for _ in range(rounds)]
        title = f"ms, {count} thread{'s' * (count > 1)}" if count else "ms"
        for row, own in zip(rows, zip(*times, strict=True), strict=True):
            row[title] = 1e3 * min(own)
    return rows


def print_table(rows: list[dict[str, float | str]]) -> None:
    columns = list(rows[0])
    print(" | ".join(f"{column:>14}" for column in columns))
    for row in rows:
        cells = [value if isinstance(value, str) else _short(column, value) for column, value in row.items()]
        print(" | ".join(f"{cell:>14}" for cell in cells))


def _short(column: str, value: float) -> str:
    return f"{value:.2e}" if "error" in column else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=sorted(SHAPES), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak_of:
        print_own_peak(asked.peak_of)
        return
    rows = measure(asked.device, rounds=asked.rounds)
    print("tokens {}, hidden {}, teacher {}, vocabulary {}".format(*SHAPES[asked.device]), DTYPES[asked.device])
    if asked.device == "cpu":
        print("load of this machine before:", json.dumps(os.getloadavg()))
    print_table(rows)


if __name__ == "__main__":
    main()
