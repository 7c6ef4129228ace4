"""A killed and resumed run exports the same bits as an uninterrupted one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.kill import finish, kill_when, num_steps, start
from support.spawn import run_ranks
from support.tiny import tiny_job, write_job
from support.whole_run import run_job


def with_steps(root: Path, steps: int, level: str, workers: int) -> Path:
    """The tiny job below `root`, long enough to be killed in the middle."""
    stages = tiny_job(root)["stages"]
    stages[2] |= {
        "budget": {"steps": steps},
        "zero_level": level,
        "checkpoint": {"every": 5, "keep_latest": 2},
    }
    return write_job(root, stages=stages, workers={"count": workers})


def exported(root: Path) -> dict[str, bytes]:
    folder = root / "runs" / "tiny" / "exports" / "out"
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.name not in ("README.md", "espalier-export.json")
    }


def recorded(root: Path) -> list[tuple[int, float, float]]:
    lines = (root / "runs" / "tiny" / "records" / "steps.jsonl").read_text().splitlines()
    return [(one["step"], one["loss"], one["gradient_norm"]) for one in map(json.loads, lines)]


def kill_twice(root: Path, job: Path, *arguments: str) -> None:
    run = root / "runs" / "tiny"
    kill_when(start(job, *arguments), lambda: num_steps(run) >= 12)
    assert not (run / "stages" / "heal" / "result.json").exists(), "killed too late to show anything"
    kill_when(start(job, *arguments), (run / "stages" / "heal" / "result.json").exists)
    assert not (run / "exports" / "out").exists(), "killed too late to show anything"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_in_process(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for root in (calm, rough):
        with_steps(root, 60, "none", 1)
    assert finish(calm / "job.yaml", "--in-process") == 0
    kill_twice(rough, rough / "job.yaml", "--in-process")
    assert finish(rough / "job.yaml", "--in-process") == 0
    assert exported(rough) == exported(calm)
    assert recorded(rough) == recorded(calm)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_through_ray_and_zero(tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for root in (calm, rough):
        with_steps(root, 40, "gradients", 2)
    run_ranks(run_job, 2, str(calm / "job.yaml"))
    kill_twice(rough, rough / "job.yaml")
    assert finish(rough / "job.yaml") == 0
    assert exported(rough) == exported(calm)
    assert recorded(rough) == recorded(calm)
