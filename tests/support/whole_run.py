"""A whole job on ranks without a cluster: the plan's stages one after another, as the controller would order them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from espalier.distributed.world import World
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from espalier.worker.run_stage import run_stage


def run_job(world: World, job_file: str) -> dict[str, Any]:
    """Every stage of a job; results by stage name."""
    folder, stages = plan_job(world, job_file)
    results = [run_stage(StageOrder(str(folder), stage, 1), world, Control()) for stage in stages]
    return {result.stage: result.to_json() for result in results}


def run_again(world: World, run_folder: str, stage: str) -> dict[str, Any]:
    """One stage of a run that is there already, in a second attempt."""
    return run_stage(StageOrder(run_folder, stage, 2), world, Control()).to_json()


def plan_job(world: World, job_file: str) -> tuple[Path, list[str]]:
    """Write down what the driver would; the run's folder and the names of its stages, in order."""
    prepared = prepare(read_job(Path(job_file)))
    folder = RunFolder.of(prepared.job)
    if world.is_rank_zero:
        prepared.write_down(folder)
    world.barrier()
    return folder.path, [stage.name for stage in prepared.plan.stages]


def recorded_steps(run_folder: Path) -> list[dict[str, Any]]:
    """The record of a run."""
    return [json.loads(line) for line in (run_folder / "records" / "steps.jsonl").read_text().splitlines()]


def run_here(job_file: Path) -> tuple[RunFolder, dict[str, Any]]:
    """Every stage of a job in this process, without a group: for jobs that shard nothing."""
    world = World(0, 1, torch.device("cpu"))
    results = run_job(world, str(job_file))
    return RunFolder.of(read_job(job_file)), results
