"""Run folders as a run leaves them, with plausible numbers."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from espalier.stages.result import Cost, StageResult
from espalier.tracking.events import EVENTS, EventLog
from espalier.tracking.record import STEPS, StepLog, StepRecord

NUM_STEPS = 311
STEP_TOKENS = 16384
EVIL = "<script>alert('x')</script> & so on"

_PARENT = {
    "layers": 30,
    "hidden": 576,
    "ffn": 1536,
    "heads": 9,
    "kv_heads": 3,
    "head_dim": 64,
    "vocabulary": 49152,
}
_PARENT |= {"parameters": 134_515_008}
_SMALL = _PARENT | {"layers": 27, "ffn": 1152, "parameters": 104_852_160}

_STAGES: tuple[tuple[str, str, dict[str, str], dict[str, int]], ...] = (
    ("parent", "load", {}, _PARENT),
    ("pruned", "prune", {"student": "parent"}, _SMALL),
    ("healed", "distill", {"student": "pruned", "teacher": "parent"}, _SMALL),
    ("scores", "evaluate", {"model": "healed", "against[0]": "parent", "against[1]": "pruned"}, {}),
    ("exported", "export", {"model": "healed"}, {}),
)

_WRITTEN = {
    "parent": " night and day, and I will tell thee what I think of it.\nKING: Speak on, good friend.",
    "pruned": " the the of, and and the king of the the of a thou.\nThe of",
    "healed": " night, my lord, and I have seen the king.\nKING: What news of him? " + EVIL,
}


def write_run(folder: Path, *, until: str = "exported", num_steps: int = NUM_STEPS, terms: int = 1) -> Path:
    """Fill `folder` with a run of prune_then_distill in which everything up to stage `until` is done.

    Args:
        num_steps: how many of `healed`'s steps are in the record.
        terms: how many loss terms `healed` has.
    """
    _write(
        folder / "job.json",
        {"name": "smollm2-slim", "seed": 17, "storage": "/shared", "recipe": {"name": EVIL}},
    )
    versions = {"espalier": "0.1.0", "torch": "2.13.0", "deepspeed": "0.19.8"}
    _write(
        folder / "run.json",
        {"run_id": "r17", "wandb_id": "r17", "created": "2026-01-17", "versions": versions},
    )
    _write(folder / "plan.json", [_planned(*stage) for stage in _STAGES])
    names = [name for name, *_ in _STAGES]
    events = EventLog(folder / EVENTS)
    for name, kind, _, _ in _STAGES[: names.index(until) + 1]:
        events.add("started", name)
        result = StageResult(name, kind, "k", "done", None, _metrics(kind), _cost(kind))
        _write(folder / "stages" / name / "result.json", result.to_json())
        events.add("finished", name)
    if names.index(until) + 1 < len(names):
        events.add("started", names[names.index(until) + 1])
    log = StepLog(folder / STEPS)
    noise = random.Random(3)
    for number in range(1, num_steps + 1):
        log.append(_step(number, noise.gauss(0, 1), terms))
    return folder


def _planned(name: str, kind: str, inputs: dict[str, str], shape: dict[str, int]) -> dict[str, Any]:
    flops = 4.02e15 if kind == "distill" else None
    return {"name": name, "kind": kind, "inputs": inputs, "shape": shape or None, "flops": flops}


def _metrics(kind: str) -> dict[str, Any]:
    if kind != "evaluate":
        return {}
    models = {
        name: {
            "perplexity": perplexity,
            "nll": math.log(perplexity),
            "tokens": 65536,
            "parameters": shape["parameters"],
            "flops_per_token": 2.0 * shape["parameters"],
            "seconds": 21.3,
            "tokens_per_second": 3100.0 * 134e6 / shape["parameters"],
            "peak_bytes": 9 * shape["parameters"],
            "samples": [
                {"prompt": "I have seen him", "text": _WRITTEN[name]},
                {"prompt": EVIL, "text": name},
            ],
        }
        for name, perplexity, shape in (
            ("healed", 29.0, _SMALL),
            ("parent", 24.1, _PARENT),
            ("pruned", 53.7, _SMALL),
        )
    }
    return {"models": models, "gap_closed": 0.769}


def _cost(kind: str) -> Cost:
    return {
        "load": Cost(seconds=2.4, peak_bytes=600 * 2**20),
        "prune": Cost(tokens=262144, samples=1024, flops=7.1e13, seconds=31.0, peak_bytes=1300 * 2**20),
        "distill": Cost(
            tokens=NUM_STEPS * STEP_TOKENS, samples=19904, flops=3.97e15, seconds=263.0, peak_bytes=3 * 2**30
        ),
        "evaluate": Cost(tokens=196608, samples=192, flops=4.9e13, seconds=64.0, peak_bytes=1200 * 2**20),
        "export": Cost(seconds=1.7, peak_bytes=500 * 2**20),
    }[kind]


def _step(number: int, noise: float, terms: int) -> StepRecord:
    done = number / NUM_STEPS
    loss = 0.18 + 0.9 * math.exp(-7 * done) + 0.02 * noise
    names = ("forward_kl", "cross_entropy", "jsd")[:terms]
    return StepRecord(
        stage="healed",
        kind="distill",
        step=number,
        num_steps=NUM_STEPS,
        global_step=number,
        attempt=3 if number <= 137 else 4,  # the two stages before took the first two
        time=1.8e9 + number,
        loss=loss,
        terms={name: loss * (1 + place) for place, name in enumerate(names)},
        lr=1e-4 * min(1.0, number / 13) * (0.55 + 0.45 * math.cos(math.pi * done)),
        gradient_norm=0.4 + 2 * math.exp(-9 * done) + 0.03 * abs(noise),
        tokens=number * STEP_TOKENS,
        step_seconds=0.83,
        tokens_per_second=19700 + 500 * noise,
        peak_bytes=3 * 2**30,
    )


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
