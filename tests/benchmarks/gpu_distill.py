"""The demo's distill stage on GPUs, through Ray: tokens/s, peak memory beside the plan's, loss curves of 1 and 2 GPUs.

    python tests/benchmarks/gpu_distill.py MODEL_FOLDER TEXT_FOLDER [--steps 60]

Every case is a run of the `espalier` command on the same job file; only `workers` and zero levels differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

CASES = [  # workers, student's zero_level, teacher's, checkpointing
    (1, "none", "none", False),
    (1, "gradients", "none", False),
    (1, "parameters", "none", False),
    (1, "gradients", "none", True),
    (2, "optimizer", "none", False),
    (2, "gradients", "none", False),
    (2, "parameters", "none", False),
    (2, "parameters", "parameters", False),
]
SEQUENCE_TOKENS, SEQUENCES, MICROBATCH = 1024, 32, 8


def main() -> None:
    """Run every case that this host has the GPUs for; print one table and the curves' largest difference."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    header = "workers  zero_level   teacher     ckpt   tokens/s    per GPU   peak GiB   plan GiB   plan/peak   seconds"
    print(header, flush=True)
    with tempfile.TemporaryDirectory() as root:
        for case in CASES:
            if case[0] <= torch.cuda.device_count():
                found[case] = _run(Path(root), asked, case)
    reference = next(iter(found.values()))
    for case, steps in found.items():
        if not steps:
            continue
        pairs = zip(steps, reference, strict=True)
        largest = max(abs(one["loss"] - other["loss"]) / other["loss"] for one, other in pairs)
        print(
            f"{case}: loss {steps[0]['loss']:.4f} -> {steps[-1]['loss']:.4f}, at most {largest:.1%} from the first row"
        )


def _run(root: Path, asked: argparse.Namespace, case: tuple[Any, ...]) -> list[dict[str, Any]]:
    workers, level, teacher, checkpointing = case
    name = f"w{workers}-{level}-{teacher}-{'c' if checkpointing else 'n'}"
    job = root / f"{name}.json"
    job.write_text(json.dumps(_job(root, asked, name, case)))
    command = [sys.executable, "-m", "espalier_cluster.command"]
    start = time.time()
    done = subprocess.run([*command, "run", str(job)], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:])
        failure = root / "runs" / name / "failure.txt"
        print(failure.read_text()[-4000:] if failure.exists() else "")
        return []
    steps = [json.loads(line) for line in (root / "runs" / name / "records" / "steps.jsonl").read_text().splitlines()]
    result = json.loads((root / "runs" / name / "stages" / "healed" / "result.json").read_text())
    plan = json.loads((root / "runs" / name / "plan.json").read_text())
    predicted = next(entry for entry in plan if entry["name"] == "healed")["memory"]["total"]
    peak = result["cost"]["peak_bytes"]
    rates = sorted(step["tokens_per_second"] for step in steps[5:])
    rate = rates[len(rates) // 2]
    print(
        f"{workers:7}  {level:11}  {teacher:10}  {'yes' if checkpointing else 'no':4}  {rate:9,.0f}  "
        f"{rate / workers:9,.0f}  {peak / 2**30:9.2f}  {predicted / 2**30:9.2f}  {predicted / peak:10.2f}  "
        f"{time.time() - start:8.1f}",
        flush=True,
    )
    return steps


def _job(root: Path, asked: argparse.Namespace, name: str, case: tuple[Any, ...]) -> dict[str, Any]:
    workers, level, teacher, checkpointing = case
    return {
        "name": name,
        "storage": str(root / "runs"),
        "seed": 17,
        "workers": {"count": workers, "gpus_each": 1},
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
                "target": {"parameters": 105_000_000},
                "calibration": {"samples": 64},
            },
            {
                "name": "healed",
                "kind": "distill",
                "student": "pruned",
                "teacher": "parent",
                "budget": {"steps": asked.steps},
                "batch": {"sequences": SEQUENCES, "microbatch_sequences": MICROBATCH},
                "optimizer": {"lr": 3e-4, "warmup": 0.1},
                "zero_level": level,
                "teacher_zero_level": teacher,
                "activation_checkpointing": checkpointing,
            },
        ],
    }


if __name__ == "__main__":
    main()
