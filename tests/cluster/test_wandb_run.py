"""Whole runs beside a W&B server: its stop button, a kill, and an outage change no bit, and each step is there once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from test_killed_run import exported, recorded

from espalier.jobs.schema import resolved
from espalier.stages.controller import ExitCode
from espalier.stages.ownership import claim
from espalier.stages.run_folder import RunFolder
from espalier.tracking.record import STEPS, StepLog
from espalier_cluster.sync import sync
from espalier_cluster.terminal import open_terminal
from framework.tracking.samples import job, step
from support.kill import finish, kill_when, num_steps, start
from support.tiny import tiny_job, write_job
from support.wandb_server import KEY, ServedRun, Trouble, WandbServer, wait_until, wandb_server

NUM_STEPS = 300
QUICK = """
from wandb.sdk.lib.run_stopping import RunStopChecker

RunStopChecker.__init__.__kwdefaults__["poll_interval"] = 0.5  # the library's own is 15 s
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    wandb.teardown()  # it remembers the server of an earlier test
    with wandb_server() as served:
        monkeypatch.setenv("WANDB_BASE_URL", served.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield served
        wandb.teardown()


def job_file(root: Path, mode: str) -> Path:
    stages = tiny_job(root)["stages"]
    stages[2] |= {"budget": {"steps": NUM_STEPS}, "checkpoint": {"every": 50, "keep_latest": 2}}
    return write_job(root, stages=stages, workers={"count": 1}, tracking={"wandb": {"mode": mode}})


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without W&B."""
    root = tmp_path_factory.mktemp("calm")
    assert finish(job_file(root, "off"), "--in-process", seconds=500) == 0
    return root


def assert_equal(root: Path, calm: Path, run: ServedRun) -> None:
    assert exported(root) == exported(calm) and recorded(root) == recorded(calm)
    assert [row["trainer/step"] for row in run.history] == list(range(1, NUM_STEPS + 1))
    lines = [(row["stage/heal/step"], row["train/loss"], row["train/gradient_norm"]) for row in run.history]
    assert [line[0] for line in lines] == [line[0] for line in recorded(calm)]
    assert lines == recorded(calm)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_stop_button_saves_and_ends_with_75_and_the_next_start_goes_on(
    server: WandbServer, calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, run_folder = job_file(tmp_path, "online"), tmp_path / "runs" / "tiny"
    (tmp_path / "sitecustomize.py").write_text(QUICK)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    process = start(file, "--in-process")
    assert wait_until(lambda: bool(server.runs), 100.0)
    (run,) = server.runs.values()
    run.asked_to_stop = True
    assert process.wait(timeout=500) == ExitCode.RESUMABLE
    assert "asked to stop in W&B" in (run_folder / "records" / "events.jsonl").read_text()
    assert finish(file, "--in-process", seconds=500) == 0, "though the server still tells of the wish"
    assert_equal(tmp_path, calm, run)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_killed_and_resumed_in_an_outage(server: WandbServer, calm: Path, tmp_path: Path) -> None:
    file = job_file(tmp_path, "online")
    kill_when(start(file, "--in-process"), lambda: bool(server.runs) and num_steps(tmp_path / "runs" / "tiny") >= 20)
    server.trouble = Trouble(500)
    assert finish(file, "--in-process", seconds=500) == 0
    assert "espalier sync" in " ".join((tmp_path / "output.txt").read_text().split())
    server.trouble = None
    folder = RunFolder(tmp_path / "runs" / "tiny")
    assert sync(folder, folder.read_job(), open_terminal()) is ExitCode.DONE
    (run,) = server.runs.values()
    assert_equal(tmp_path, calm, run)


def test_sync_sends_what_is_lacking_and_says_what_it_could_not_send(
    server: WandbServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = job(mode="offline").model_copy(update={"storage": str(tmp_path)})
    folder = RunFolder.of(asked)
    folder.make(asked)
    claim(folder, versions={"espalier": "0"})
    folder.write_json("job.json", resolved(asked))
    for number in range(1, 6):
        StepLog(folder.path / STEPS).append(step(number))
    server.trouble = Trouble(401, at="graphql")
    assert sync(folder, asked, open_terminal()) is ExitCode.ERROR
    assert "`espalier sync " in " ".join(capsys.readouterr().out.split())
    server.trouble = None
    assert sync(folder, asked, open_terminal()) is ExitCode.DONE
    (run,) = server.runs.values()
    assert [row["trainer/step"] for row in run.history] == [1, 2, 3, 4, 5]
    assert "W&B is up to date" in capsys.readouterr().out
