"""Runs of jobs with stages of kind `lora`, in a process that finds the kind as an installed package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from espalier.config.faults import RefusedInput
from espalier.distributed.world import World
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from support.growing import run_whole_and_in_pieces, trained
from support.installed import install
from support.spawn import run_ranks
from support.tiny import write_job
from support.whole_run import run_again, run_job

PLUGIN = Path(__file__).parent / "lora_plugin"


def stages_of(root: Path, *, level: str = "none") -> list[dict[str, Any]]:
    """Adapters of queries and values; then, on the model that came of it, those of the MLP, and norms."""
    again = {"targets": ["*.down_proj.*"], "rank": 2, "tune": {"only": ["*norm*"]}}
    return [
        {"name": "parent", "kind": "load", "model": str(root / "model")},
        trained("lora", "parent", kind="lora", rank=3, zero_level=level),
        trained("again", "lora", kind="lora", zero_level=level, **again),
        {"name": "out", "kind": "export", "model": "again", "dtype": "float32"},
    ]


def run_all(root: Path) -> dict[str, dict[str, Any]]:
    """Results by stage, each run below a folder of its name.

    `whole`; `pieces`, which is stopped after every step; `redone`, whose first result is lost right before it is
    recorded; `two` ranks at level parameters.
    """
    site = root / "site"
    site.mkdir()
    install(site, "stages_of_lora", {"lora": "espalier_lora.kind:KIND"}, group="espalier.stages")
    folders = [site, PLUGIN, *(Path(one) for one in sys.path if one)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-m", "support.lora_runs", str(root)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    results: dict[str, dict[str, Any]] = json.loads((root / "results.json").read_text())
    return results


def _main(root: Path) -> None:
    whole, pieces, two, alone = root / "whole", root / "pieces", root / "two", World(0, 1, torch.device("cpu"))
    jobs = [str(write_job(one, stages=stages_of(one))) for one in (whole, pieces)]
    results = dict(zip(("whole", "pieces"), run_whole_and_in_pieces(alone, *jobs), strict=True))
    results["redone"] = _redone(root / "redone")
    refused = {"kept": {"optimizer_state": "keep"}, "nothing": {"targets": ["*.no_proj.*"]}}
    results["refused"] = {name: _refusal(root / "refused", settings) for name, settings in refused.items()}
    shared = str(write_job(two, stages=stages_of(two, level="parameters"), workers={"count": 2}))
    results["two"] = run_ranks(run_job, 2, shared)[0]
    (root / "results.json").write_text(json.dumps(results))


def _redone(root: Path) -> dict[str, Any]:
    world, job = World(0, 1, torch.device("cpu")), write_job(root, stages=stages_of(root)[:2])
    results, run = run_job(world, str(job)), root / "runs" / "tiny"
    (run / "stages" / "lora" / "result.json").unlink()
    return results | {"lora": run_again(world, str(run), "lora")}


def _refusal(root: Path, settings: dict[str, Any]) -> str:
    """Of a stage with these settings on a model that was trained here."""
    stages = [stages_of(root)[0], trained("first", "parent"), trained("lora", "first", kind="lora", **settings)]
    try:
        prepare(read_job(write_job(root, stages=stages)))
    except RefusedInput as refused:
        return str(refused)
    return ""


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
