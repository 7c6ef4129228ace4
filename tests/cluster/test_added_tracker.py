"""A tracker of another package receives a run's record, also across a kill, without any change to our own files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.installed import install
from support.kill import finish, kill_when, num_steps, start
from support.labelled import labelled_job, write_labelled_job

TOKEN = "a-secret-of-the-lines"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_lines(tmp_path, monkeypatch)


def install_lines(root: Path, patch: pytest.MonkeyPatch) -> None:
    site = root / "site"
    site.mkdir()
    install(site, "lines_for_espalier", {"lines": "support.lines_tracker:LINES"}, group="espalier.trackers")
    paths = [str(site), str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    patch.setenv("LINES_TOKEN", TOKEN)


def told(root: Path) -> list[dict[str, Any]]:
    path = root / "told.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def job_of(root: Path, **lines: Any) -> Path:
    stages = labelled_job(root)["stages"][:2]
    stages[1] |= {"budget": {"epochs": 6}, "checkpoint": {"every": 7}}
    tracking = {"wandb": {"mode": "off"}, "lines": {"file": str(root / "told.jsonl"), **lines}}
    return write_labelled_job(root, stages=stages, tracking=tracking)


def record(root: Path, name: str) -> list[dict[str, Any]]:
    path = root / "runs" / "tiny" / "records" / name
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed when its tracker had been told of a step."""
    root = tmp_path_factory.mktemp("killed")
    run = root / "runs" / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        install_lines(root, patch)
        process = start(job_of(root, team="blue"), "--in-process")
        kill_when(process, lambda: num_steps(run) >= 10 and any("loss" in one for one in told(root)))
    return root


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("rewrites", [True, False])
def test_it_is_told_of_every_step_and_epoch_once_through_a_kill(killed: Path, tmp_path: Path, rewrites: bool) -> None:
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    job, settings = tmp_path / "job.yaml", yaml.safe_load((killed / "job.yaml").read_text())
    settings["tracking"]["lines"] |= {"file": str(tmp_path / "told.jsonl"), "rewrites": rewrites}
    job.write_text(yaml.safe_dump(settings | {"storage": str(tmp_path / "runs")}))
    before = told(tmp_path)
    assert finish(job, "--in-process") == 0
    lines, steps, epochs = told(tmp_path), record(tmp_path, "steps.jsonl"), record(tmp_path, "epochs.jsonl")
    assert len(epochs) == 6 and len(steps) > 10
    given = [(one["global_step"], one["loss"]) for one in lines if "loss" in one]
    assert given == [(one["global_step"], one["loss"]) for one in steps]
    ends = [(one["epoch"], one["metrics"]) for one in lines if "epoch" in one]
    assert ends == [(one["epoch"], one["metrics"]) for one in epochs]
    assert [one["result"] for one in lines if "result" in one][-1] == "vanilla" and "vanilla" in lines[-1]["finished"]
    starts = [one for one in (*before, *lines) if "run" in one]
    assert len({one["process"] for one in starts}) == 2, "both processes told it"
    assert len({one["id"] for one in starts}) == 1
    for one in starts:
        assert (one["run"], one["seed"], one["team"]) == ("tiny", 3, "blue")
        assert one["secrets"] == {"LINES_TOKEN": TOKEN} and not one["inherited"]
    assert "the lines are in told.jsonl" in (tmp_path / "output.txt").read_text()


@pytest.mark.usefixtures("installed")
def test_its_settings_are_checked_as_ours_are(tmp_path: Path) -> None:
    job = job_of(tmp_path, tema="blue")
    assert finish(job, "--in-process") == 2
    said = " ".join((tmp_path / "output.txt").read_text().split())
    assert "tracking.lines.tema" in said and "`team`" in said


def test_where_it_is_not_installed_the_installed_ones_are_named(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    code = f"from espalier.jobs.load import read_job; from pathlib import Path; read_job(Path({str(job)!r}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (
        "`tracking.lines` (line" in found.stderr
        and "is no setting here; allowed: wandb, mlflow, tensorboard." in found.stderr
    )


def test_a_tracker_that_cannot_be_imported_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "half_tracker", {"lines": "half_tracker:LINES"}, "import no_such_module", group="espalier.trackers")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")])))
    command = [sys.executable, "-m", "espalier_cluster.command", "validate", str(job_of(tmp_path))]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    told = " ".join((ran.stdout + ran.stderr).split())
    assert ran.returncode == 2 and "`tracking.lines`" in told
    assert "half_tracker:LINES of package half_tracker cannot be used: ModuleNotFoundError" in told
