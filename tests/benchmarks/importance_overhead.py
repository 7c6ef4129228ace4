"""What measuring importance adds to a plain forward pass, on SmolLM2's geometry with a few layers.

    python tests/benchmarks/importance_overhead.py --layers 4 --rows 4 --tokens 256

The plain pass runs the body alone (the head would flatter the ratio). Plain, measured and measured under a
mask take turns, and the medians are compared, so that a busy machine disturbs all three alike. On a CPU the
process's own time counts, not the clock on the wall.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import transformers

from espalier.models.families import probes, shape_of
from espalier.surgery.importance import measuring

GEOMETRIES = {
    "smollm2-135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "llama-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


def main() -> None:
    options = _options()
    on_gpu = torch.cuda.is_available()
    device, dtype = "cuda" if on_gpu else "cpu", getattr(torch, options.dtype)
    torch.set_num_threads(options.threads)
    config = {"model_type": "llama", "num_hidden_layers": options.layers, **GEOMETRIES[options.geometry]}
    stock = transformers.AutoConfig.for_model(**config)
    model = transformers.LlamaForCausalLM(stock).to(device, dtype).eval()
    rows = torch.randint(0, config["vocab_size"], (options.rows, options.tokens), device=device)
    mask = torch.ones_like(rows, dtype=torch.bool)
    mask[:, -3:] = False
    seconds = _take_turns(_Bench(model, config, rows, mask), options.rounds)
    plain = statistics.median(seconds["plain"])
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    size = f"{options.layers} layers, {options.rows} x {options.tokens} tokens"
    print(f"{name}, {dtype}, {options.geometry}, {size}")
    for kind, values in seconds.items():
        middle = statistics.median(values)
        print(f"{kind:<10} {1e3 * middle:8.2f} ms  {middle / plain:5.3f} x")


@dataclass(frozen=True)
class _Bench:
    """One model and one microbatch. The forward pass is timed; hooking happens once a stage and is not."""

    model: torch.nn.Module
    config: dict[str, object]
    rows: torch.Tensor
    mask: torch.Tensor

    def seconds(self, kind: str) -> float:
        if kind == "plain":
            return self._timed(torch.no_grad)
        with measuring(self.model, probes(self.config), shape_of(self.config)) as meter:
            return self._timed(lambda: meter.microbatch(self.mask if kind == "masked" else None))

    def _timed(self, context: Callable[[], AbstractContextManager[None]]) -> float:
        clock = time.perf_counter if self.rows.is_cuda else time.process_time
        started = clock()
        with context():
            self.model.base_model(input_ids=self.rows, use_cache=False)
        if self.rows.is_cuda:
            torch.cuda.synchronize()
        return clock() - started


def _take_turns(bench: _Bench, rounds: int) -> dict[str, list[float]]:
    kinds = ("plain", "measured", "masked")
    turns = [{kind: bench.seconds(kind) for kind in kinds} for _ in range(rounds + 2)]
    return {kind: [turn[kind] for turn in turns[2:]] for kind in kinds}  # two rounds of warming up


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--geometry", choices=GEOMETRIES, default="smollm2-135m")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16" if torch.cuda.is_available() else "float32")
    return parser.parse_args()


if __name__ == "__main__":
    main()
