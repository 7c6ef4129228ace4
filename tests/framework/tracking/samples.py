"""Step records and run folders for the tests of tracking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from espalier.jobs.job import Job
from espalier.tracking.record import StepRecord

STEP = StepRecord(
    stage="heal",
    kind="distill",
    step=1,
    num_steps=7,
    global_step=1,
    attempt=1,
    time=1000.5,
    loss=2.5,
    terms={"forward_kl": 2.5},
    lr=1e-4,
    gradient_norm=0.75,
    tokens=1024,
    step_seconds=2.0,
    tokens_per_second=512.0,
    peak_bytes=3 * 2**30,
)


def step(number: int, *, attempt: int = 1, stage: str = "heal", before: int = 0, loss: float = 2.5) -> StepRecord:
    """Step `number` of a stage that comes after `before` steps of others."""
    return replace(
        STEP,
        stage=stage,
        step=number,
        global_step=before + number,
        attempt=attempt,
        time=1000.0 + 100 * attempt + before + number,
        tokens=1024 * number,
        loss=loss,
        terms={"forward_kl": loss},
    )


def job(**wandb: str) -> Job:
    return Job.model_validate(
        {
            "name": "slim",
            "storage": "/nowhere",
            "tracking": {"wandb": wandb},
            "data": {"train": {"source": "text", "files": ["a.txt"]}, "valid": {"fraction": 0.1}},
            "stages": [{"name": "parent", "kind": "load", "model": "m"}],
        }
    )


def run_folder(folder: Path) -> Path:
    """A run's folder with an id of its own: W&B's service keeps one id to one run for as long as it lives."""
    wandb_id = uuid4().hex[:8]
    (folder / "run.json").write_text(json.dumps({"run_id": "r1", "wandb_id": wandb_id, "created": 1000.0}))
    return folder
