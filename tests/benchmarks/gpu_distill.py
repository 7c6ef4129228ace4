"""The demo's distill stage on GPUs, through Ray: tokens/s, peak memory beside the plan's, loss curves of 1 and 2 GPUs.

    python tests/benchmarks/gpu_distill.py MODEL_FOLDER TEXT_FOLDER [--steps 40] [--storage FOLDER] [--cases CASE ...]

One job a number of workers, through the `espalier` command; its distill stages take the same steps from the same
student and differ in zero levels, checkpointing and offload only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

CASES: dict[str, dict[str, Any]] = {
    "none": {"zero_level": "none"},
    "optimizer": {"zero_level": "optimizer"},
    "gradients": {"zero_level": "gradients"},
    "parameters": {"zero_level": "parameters"},
    "both-parameters": {"zero_level": "parameters", "teacher_zero_level": "parameters"},
    "checkpointing": {"zero_level": "gradients", "activation_checkpointing": True},
    "offload": {"zero_level": "gradients", "optimizer": {"lr": 3e-4, "warmup": 0.1, "offload": True}},
}
SEQUENCE_TOKENS, SEQUENCES, MICROBATCH = 1024, 32, 8
WARM_STEPS = 5


def main() -> None:
    """Run every case on 1 and on 2 GPUs where there are; print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--storage", type=Path)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    asked = parser.parse_args()
    print("GPUs  case               tokens/s   per GPU  peak GiB  plan GiB  plan/peak  first loss  last loss  max diff")
    reference: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        storage = asked.storage or Path(temporary)
        storage.mkdir(parents=True, exist_ok=True)
        for workers in range(1, min(2, torch.cuda.device_count()) + 1):
            run = _run(storage, asked, workers)
            for case in asked.cases:
                losses = _row(run, workers, case, reference)
                reference = reference or losses


def _run(storage: Path, asked: argparse.Namespace, workers: int) -> Path:
    job = storage / f"gpus-{workers}.json"
    job.write_text(json.dumps(_job(storage, asked, workers)))
    done = subprocess.run(
        [sys.executable, "-m", "espalier_cluster.command", "run", str(job)], capture_output=True, text=True, check=False
    )
    run = storage / "runs" / f"gpus-{workers}"
    if done.returncode:
        failure = run / "failure.txt"
        print(done.stdout[-2000:], done.stderr[-2000:], failure.read_text()[-3000:] if failure.exists() else "")
    return run


def _row(run: Path, workers: int, case: str, reference: list[float]) -> list[float]:
    result_file = run / "stages" / case / "result.json"
    if not result_file.exists():
        print(f"{workers:4}  {case:17}  did not end")
        return []
    lines = (run / "records" / "steps.jsonl").read_text().splitlines()
    steps = [step for step in map(json.loads, lines) if step["stage"] == case]
    plan = {entry["name"]: entry for entry in json.loads((run / "plan.json").read_text())}
    predicted = plan[case]["memory"]["total"] / 2**30
    peak = json.loads(result_file.read_text())["cost"]["peak_bytes"] / 2**30
    rate = statistics.median(step["tokens_per_second"] for step in steps[WARM_STEPS:])
    losses = [step["loss"] for step in steps]
    apart = max((abs(a - b) / b for a, b in zip(losses, reference or losses, strict=True)), default=0.0)
    print(
        f"{workers:4}  {case:17}{rate:10,.0f}{rate / workers:10,.0f}{peak:10.2f}{predicted:10.2f}"
        f"{predicted / peak:11.2f}{losses[0]:12.4f}{losses[-1]:11.4f}{apart:10.2%}",
        flush=True,
    )
    return losses


def _job(storage: Path, asked: argparse.Namespace, workers: int) -> dict[str, Any]:
    return {
        "name": f"gpus-{workers}",
        "storage": str(storage / "runs"),
        "seed": 17,
        "workers": {"count": workers, "gpus_each": 1, "cpus_each": 4},
        "tracking": {"wandb": {"mode": "off"}},
        "data": {
            "train": {"source": "text", "files": [str(asked.text / "*.txt")]},
            "valid": {"fraction": 0.06},
            "sequence_tokens": SEQUENCE_TOKENS,
        },
        "stages": [
            {"name": "parent", "kind": "load", "model": str(asked.model)},
            {
                "name": "pruned",
                "kind": "prune",
                "student": "parent",
                "target": {"parameters": 106_000_000},
                "calibration": {"samples": 64, "microbatch_sequences": 16},
            },
            *(_distill(case, CASES[case], asked.steps) for case in asked.cases),
        ],
    }


def _distill(case: str, settings: dict[str, Any], steps: int) -> dict[str, Any]:
    return {
        "name": case,
        "kind": "distill",
        "student": "pruned",
        "teacher": "parent",
        "budget": {"steps": steps},
        "batch": {"sequences": SEQUENCES, "microbatch_sequences": MICROBATCH},
        "optimizer": {"lr": 3e-4, "warmup": 0.1},
        **settings,
    }


if __name__ == "__main__":
    main()
