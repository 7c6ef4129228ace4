"""One job under several seeds: what the runs say together, and a whole one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from espalier.config.load import read_job
from espalier.stages.controller import ExitCode
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier_cluster.seeds import _child, summary
from support.labelled import labelled_job, write_labelled_job


def test_models_are_compared_seed_by_seed_with_the_first_they_are_held_against(tmp_path: Path) -> None:
    job = read_job(write_labelled_job(tmp_path))
    children = [_child(job, tmp_path / "seeds", seed) for seed in (3, 4, 5)]
    assert [child.job.seed for child in children] == [3, 4, 5]
    assert len({RunFolder.of(child.job).path for child in children}) == 3
    for child, (ours, theirs) in zip(children, [(0.9, 0.7), (0.8, 0.7), (0.85, 0.8)], strict=True):
        models = {"corrected": {"accuracy": ours}, "vanilla": {"accuracy": theirs}}
        metrics = {"model": "corrected", "watched": "accuracy", "models": models}
        RunFolder.of(child.job).write_result(StageResult("scores", "evaluate", "k", "done", None, metrics))
    rows = {row["model"]: row for row in summary(children)}
    assert rows["corrected"]["values"] == [0.9, 0.8, 0.85] and rows["corrected"]["baseline"] == "vanilla"
    assert rows["corrected"]["difference"] == pytest.approx(0.35 / 3) and rows["vanilla"]["difference"] == 0.0


def test_seeds_that_have_not_come_to_an_evaluation_say_nothing(tmp_path: Path) -> None:
    job = read_job(write_labelled_job(tmp_path))
    assert summary([_child(job, tmp_path / "seeds", 3)]) == []


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_seeds_run_and_are_compared(tmp_path: Path) -> None:
    stages = [stage for stage in labelled_job(tmp_path)["stages"] if stage["name"] in ("parent", "vanilla", "scores")]
    stages[2] |= {"model": "vanilla", "against": []}
    job = write_labelled_job(tmp_path, stages=stages, seeds=2)
    command = [sys.executable, "-m", "espalier_cluster.command", "run", str(job), "--in-process"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ExitCode.DONE, done.stdout + done.stderr
    assert done.stdout.count(": done") == 2 and "scores" in done.stdout
    assert (tmp_path / "runs" / "tiny" / "seeds.json").exists()
