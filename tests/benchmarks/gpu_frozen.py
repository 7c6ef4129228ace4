"""Peak memory of steps that train a part of a model on one GPU, beside the plan's: at most 15 % apart.

    python tests/benchmarks/gpu_frozen.py [--steps 4] [--microbatch 8] [--tokens 1024]

The model is the 135 M Llama shape of `frozen_step.py` with random weights; nothing is downloaded, and no cluster
started. Each row is an engine of its own: all, 1 % spread over all layers, the last layers; at levels none, gradients
and parameters, in bfloat16, as one worker.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch
import torch.distributed as dist

from espalier.checkpoint.read import StateReader
from espalier.config.training import TuneConfig, ZeroLevel
from espalier.distributed.world import World
from espalier.engine.open import EngineSpec, open_engine
from espalier.models.families import num_parameters, shape_of, tuned_names
from espalier.models.trained_part import TrainedPart
from espalier.planning.memory import Training, student_memory
from espalier.training.step import take_step

sys.path.insert(0, str(Path(__file__).parent))
from frozen_step import MODEL, OBJECTIVE, OPTIMIZER, PARTS, batch_of, save_model

LEVELS: tuple[ZeroLevel, ...] = ("none", "gradients", "parameters")
_ALLOWED = 0.15


def main() -> None:
    """Print one table; exit code 1 when a peak is further from the plan than allowed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--microbatch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=1024)
    asked = parser.parse_args()
    os.environ |= {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}
    with tempfile.TemporaryDirectory() as root:
        dist.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{root}/meeting", rank=0, world_size=1)
        reader, world = save_model(Path(root, "states")), World.from_process_group()
        print("zero_level  trained               peak GiB  plan GiB  plan/peak   s/step")
        apart = [_row(reader, world, level, part, asked) for level in LEVELS for part in PARTS]
        dist.destroy_process_group()
    if max(apart) > _ALLOWED:
        raise SystemExit(f"a plan is {max(apart):.0%} from what was measured; {_ALLOWED:.0%} are allowed")


def _row(reader: StateReader, world: World, level: ZeroLevel, name: str, asked: argparse.Namespace) -> float:
    """Measure one engine and print its row; how far the plan is from its peak, as a share of the peak."""
    patterns = PARTS[name]
    names = tuned_names(MODEL, None if patterns is None else TuneConfig(only=patterns))
    peak, seconds = _measured(reader, world, level, names, asked)
    training = Training(
        zero_level=level, ranks=1, value_bytes=2, microbatch_tokens=asked.microbatch * asked.tokens, on_gpu=True
    )
    part = None if names is None else TrainedPart.of(MODEL, names)
    planned = student_memory(shape_of(MODEL), num_parameters(MODEL), training, part).total
    row = f"{peak / 2**30:10.2f}{planned / 2**30:10.2f}{planned / peak:11.2f}{seconds:9.3f}"
    print(f"{level:12}{name:20}{row}", flush=True)
    return abs(planned / peak - 1)


def _measured(
    reader: StateReader, world: World, level: ZeroLevel, names: frozenset[str] | None, asked: argparse.Namespace
) -> tuple[float, float]:
    """Largest number of bytes allocated at once, beyond what was there; the median of the later steps' seconds."""
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    spec, times = EngineSpec(level, torch.bfloat16, OPTIMIZER, 2, trained=names), []
    with closing(open_engine(spec, OBJECTIVE, reader, steps_taken=0, world=world)) as engine:
        for step in range(asked.steps):
            microbatches = [batch_of(asked.microbatch, asked.tokens, 2 * step + number) for number in range(2)]
            torch.cuda.synchronize()
            began = time.perf_counter()
            take_step(engine, None, microbatches, objective=OBJECTIVE, lr=1e-4, random=(0, step), world=world)
            torch.cuda.synchronize()
            times.append(time.perf_counter() - began)
        peak = torch.cuda.max_memory_allocated() - before
    return peak, statistics.median(times[1:])


if __name__ == "__main__":
    main()
