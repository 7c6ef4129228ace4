"""A tiny job that grows: depth sampling, more layers, more width, pruning, and evaluations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from espalier.distributed.world import World
from espalier.stages.failures import StageFailed
from espalier.stages.heartbeats import Control
from espalier.stages.orders import StageOrder
from espalier.worker.run_stage import run_stage
from support.tiny import write_job
from support.whole_run import plan_job, run_job


def trained(name: str, student: str, **settings: Any) -> dict[str, Any]:
    """A stage that trains for a few steps."""
    return {
        "name": name,
        "kind": "train",
        "student": student,
        "budget": {"steps": 4},
        "batch": {"sequences": 8, "microbatch_sequences": 2},
        "optimizer": {"lr": 0.003, "schedule": "wsd"},
        "zero_level": "none",
        "checkpoint": {"every": 2},
        **settings,
    }


def growing_stages(root: Path, zero_levels: tuple[str, str, str] = ("none",) * 3) -> list[dict[str, Any]]:
    """Depth sampling with three layers, six layers, twice the neurons, four layers again."""
    first, second, third = ({"zero_level": level} for level in zero_levels)
    return [
        {"name": "parent", "kind": "load", "model": str(root / "model")},
        trained("shallow", "parent", depth_sampling={"depth": 6, "sampler": "uniform"}, **first),
        {"name": "deep", "kind": "grow", "student": "shallow", "target": {"layers": 6}, "operator": "interpolate"},
        trained("later", "deep", optimizer_state="keep", **second),
        {"name": "wide", "kind": "grow", "student": "later", "target": {"ffn": 106, "heads": 12}, "noise": 0.01},
        trained("last", "wide", optimizer_state="keep", **third),
        {
            "name": "slim",
            "kind": "prune",
            "student": "last",
            "target": {"layers": 4},
            "calibration": {"samples": 4, "microbatch_sequences": 2},
        },
        {"name": "score", "kind": "evaluate", "model": "last", "against": ["shallow", "slim"], "sequences": 6},
        {
            "name": "unrolled",
            "kind": "evaluate",
            "model": "shallow",
            "unrolled": {"depth": 6},
            "against": ["deep"],
            "sequences": 6,
        },
        {"name": "out", "kind": "export", "model": "last", "dtype": "float32"},
    ]


def write_growing_job(root: Path, *, zero_levels: tuple[str, str, str] = ("none",) * 3, **changes: Any) -> Path:
    """Model, text and job file below `root`; the path of the job file."""
    return write_job(root, stages=growing_stages(root, zero_levels), **changes)


def run_whole_and_in_pieces(world: World, whole: str, pieces: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results of two equal jobs; the second is stopped after every step it takes and begun again."""
    return run_job(world, whole), _in_pieces(world, pieces)


def _in_pieces(world: World, job_file: str) -> dict[str, Any]:
    folder, stages = plan_job(world, job_file)
    results = {}
    for stage in stages:
        attempt = 0
        while stage not in results:
            attempt += 1
            control = Control()
            control.stop.set()
            try:
                results[stage] = run_stage(StageOrder(str(folder), stage, attempt), world, control).to_json()
            except StageFailed as stopped:
                assert stopped.cause == "stopped", stopped
    return results
