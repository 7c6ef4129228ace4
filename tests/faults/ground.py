"""What a run is played on: a tiny job in which every kind of stage occurs, and what comes of it undisturbed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espalier.config.training import ZeroLevel
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.stages.plan import Plan
from espalier.stages.run_folder import RunFolder
from faults.attempt import RANKS, attempt
from faults.moments import Moment
from faults.outcome import outcome
from support.tiny import tiny_job, write_model, write_text

LEVELS: tuple[ZeroLevel, ...] = ("none", "optimizer", "gradients", "parameters")
KINDS = {"parent": "load", "slim": "prune", "heal": "distill", "tune": "train", "score": "evaluate", "out": "export"}
NAME = "tiny"


@dataclass(frozen=True)
class Ground:
    """One level's job.

    Attributes:
        counts: moments that each rank passed in the undisturbed run.
        expected: its outcome.
    """

    folder: Path
    level: ZeroLevel
    plan: Plan
    counts: tuple[Counter[Moment], ...]
    expected: dict[str, Any]


def make_material(folder: Path) -> None:
    """The model and the text that all jobs share."""
    write_model(folder / "model")
    write_text(folder / "text")


def make_ground(folder: Path, level: ZeroLevel) -> Ground:
    """Carry the job out undisturbed.

    Args:
        folder: with the material.
    """
    run = folder / "calm" / level / NAME
    plan = write_down(folder, run, level, in_background=True)
    calm = attempt(run, plan, None)
    assert calm.end == "done", f"an undisturbed run of level {level} failed: {calm.text}"
    return Ground(folder, level, plan, calm.counts, outcome(run))


def write_down(material: Path, run: Path, level: ZeroLevel, *, in_background: bool, steps: int = 6) -> Plan:
    """What the driver of a run writes before its first order."""
    file = write_job_file(material, run.parent, level, in_background=in_background, steps=steps)
    prepared = prepare(read_job(file))
    prepared.write_down(RunFolder(run))
    return prepared.plan


def write_job_file(material: Path, storage: Path, level: ZeroLevel, *, in_background: bool, steps: int = 6) -> Path:
    """A job file in `storage`, for `espalier run` too: load, prune, distill, train, evaluate, export."""
    storage.mkdir(parents=True, exist_ok=True)
    job = tiny_job(material, storage=str(storage), workers={"count": RANKS})
    parent, slim, heal, score, out = job["stages"]
    frozen = "parameters" if level == "parameters" else "none"
    checkpoint = {"every": 2, "keep_latest": 2, "in_background": in_background}
    heal |= {"zero_level": level, "teacher_zero_level": frozen, "checkpoint": checkpoint, "budget": {"steps": steps}}
    tune = {key: value for key, value in heal.items() if not key.startswith("teacher")}
    tune |= {"name": "tune", "kind": "train", "student": "heal"}
    slim["zero_level"] = score["zero_level"] = frozen
    score |= {"model": "tune", "against": ["slim"], "prompts": []}  # writing samples takes longer than all the rest
    out["model"] = "tune"
    job["stages"] = [parent, slim, heal, tune, score, out]
    # A run that is killed again and again on purpose must not be called hopeless, nor be made to wait.
    job["retry"] = {"max_failures": 1000, "backoff_seconds": 0.0}
    file = storage / "job.yaml"
    file.write_text(yaml.safe_dump(job))
    return file
