"""What the start of a distillation reads, hashes and writes, and how long it takes to its first step.

    python tests/benchmarks/start_of_distillation.py [--folder FOLDER] [--layers 18] [--text-megabytes 64] [--workers 2]

A Llama of random weights in float32 (250 M parameters, 1 GB) is loaded twice, as teacher and as student, and the
student is distilled on CPU workers. Every row is a start of its own, with new processes: driver, then workers. Bytes
hashed are those given to XXH3; bytes read and written are those of system calls (`/proc/self/io`): values that are
mapped into memory do not count as read, and what workers send each other does count. Of workers all is counted up to
the first step's end, of the driver up to the first order. To measure an older commit, run this file there, with the
`framework`, `cluster` and `tests` of that commit on the path.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash

from espalier.distributed.world import World
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from support.spawn import run_ranks
from support.tiny import write_model
from support.whole_run import prepare, read_job, run_stage

HIDDEN, LENGTH = 1024, 64
_WORDS = ("the", "king", "queen", "night", "speaks", "fair", "lord", "enters", "crown", "sword", "and", "morrow")


@dataclass
class Counted:
    """Of one process, from when it was made."""

    seconds: float = 0.0
    hashed_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0


class Counter:
    """Counts what this process does. Made before anything opens a file that is to be counted."""

    def __init__(self) -> None:
        self._began, self._read, self._written = time.perf_counter(), *_kernel_bytes()
        self._hashed = 0
        make, counter = xxhash.xxh3_128, self

        class Digest:
            def __init__(self, data: bytes = b"") -> None:
                self._digest = make()
                self.update(data)

            def update(self, data: Any) -> None:
                counter._hashed += len(data)
                self._digest.update(data)

            def hexdigest(self) -> str:
                return self._digest.hexdigest()

        xxhash.xxh3_128 = Digest

    def now(self) -> Counted:
        read, written = _kernel_bytes()
        seconds = time.perf_counter() - self._began
        return Counted(seconds, self._hashed, read - self._read, written - self._written)


def _kernel_bytes() -> tuple[int, int]:
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["rchar"]), int(lines["wchar"])


def carry_out(world: World, run: str, stages: list[str], attempt: int) -> dict[str, float]:
    """Stages one after another, the last one stopped after a step where it trains; what was done until then."""
    counter, control = Counter(), Control()
    if stages == ["heal"]:
        control.stop.set()
    found: list[Counted] = []

    def watch() -> None:
        while control.num_steps == 0 and not found:
            time.sleep(0.01)
        found.append(counter.now())

    threading.Thread(target=watch, daemon=True).start()
    try:
        for stage in stages:
            run_stage(StageOrder(run, stage, attempt), world, control)
        found.append(counter.now())
    except StageFailed as stopped:
        assert stopped.cause == "stopped", stopped
    return asdict(found[0])


def plan(job: str, answer: Any) -> None:
    """The driver's part, in a process of its own."""
    counter = Counter()
    prepared = prepare(read_job(Path(job)))
    prepared.write_down(RunFolder.of(prepared.job))
    answer.put(asdict(counter.now()))


def start(job: Path, run: Path, stages: list[str], *, attempt: int, workers: int) -> list[dict[str, float]]:
    """Driver and workers of one start; what each counted, the driver first."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    driver = context.Process(target=plan, args=(str(job), answer))
    driver.start()
    of_driver = answer.get(timeout=600)
    driver.join()
    RunFolder(run).note_attempt(attempt)
    return [of_driver, *run_ranks(carry_out, workers, str(run), stages, attempt, seconds=900)]


def main() -> None:
    """Measure every start; print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--text-megabytes", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as made:
        root = Path(made)
        job = _write_job(root, asked)
        run = root / "runs" / "start"
        size = (root / "model" / "model.safetensors").stat().st_size
        print(f"model {size / 1e9:.2f} GB, text {asked.text_megabytes} MB, load {os.getloadavg()[0]:.1f}", flush=True)
        print(f"{'start':34}{'process':10}{'hashed MB':>11}{'read MB':>11}{'written MB':>11}{'seconds':>9}")
        rows: list[tuple[str, list[str], Callable[[], None]]] = [
            ("load teacher and student", ["teacher", "student"], lambda: None),
            ("distill, tokens to be made", ["heal"], lambda: None),
            ("distill, tokens kept", ["heal"], lambda: shutil.rmtree(run / "stages" / "heal")),
            ("distill, resumed after a step", ["heal"], lambda: None),
        ]
        for attempt, (name, stages, before) in enumerate(rows, start=1):
            before()
            os.sync()
            for place, one in enumerate(start(job, run, stages, attempt=attempt, workers=asked.workers)):
                _show(name if place == 0 else "", "driver" if place == 0 else f"rank {place - 1}", Counted(**one))
        print(f"states of the run: {_bytes_below(run / 'stages') / 1e9:.2f} GB, load {os.getloadavg()[0]:.1f}")


def _show(name: str, process: str, one: Counted) -> None:
    megabytes = (f"{count / 1e6:11.0f}" for count in (one.hashed_bytes, one.read_bytes, one.written_bytes))
    print(f"{name:34}{process:10}{''.join(megabytes)}{one.seconds:9.1f}", flush=True)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_job(root: Path, asked: argparse.Namespace) -> Path:
    shape = {"hidden_size": HIDDEN, "intermediate_size": 3 * HIDDEN, "num_hidden_layers": asked.layers}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 64, "max_position_embeddings": LENGTH}
    write_model(root / "model", **shape, **heads)
    draw, text = random.Random(3), root / "text"
    text.mkdir()
    for number in range(asked.text_megabytes):
        words = " ".join(draw.choices(_WORDS, k=2**20 // 5))
        (text / f"{number}.txt").write_text(words[: 2**20])
    load = {"kind": "load", "model": str(root / "model")}
    heal = {
        "name": "heal",
        "kind": "distill",
        "student": "student",
        "teacher": "teacher",
        "budget": {"steps": 100},
        "batch": {"sequences": asked.workers, "microbatch_sequences": 1},
        "optimizer": {"lr": 1e-4},
        "zero_level": "optimizer",
        "checkpoint": {"every": 100},
    }
    job = {
        "name": "start",
        "storage": str(root / "runs"),
        "dtype": "float32",
        "workers": {"count": asked.workers},
        "tracking": {"wandb": {"mode": "off"}},
        "data": {
            "train": {"source": "text", "files": [str(text / "*.txt")]},
            "valid": {"fraction": 0.05},
            "sequence_tokens": LENGTH,
        },
        "stages": [{"name": "teacher", **load}, {"name": "student", **load}, heal],
    }
    path = root / "job.yaml"
    path.write_text(json.dumps(job))
    return path


if __name__ == "__main__":
    main()
