"""A stage that is repeated with other settings keeps its old result until the new one is committed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from espalier.checkpoint.manifest import Manifest
from espalier.checkpoint.manifest_file import load_manifest
from espalier.checkpoint.read import StateReader
from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.stages.controller import ExitCode
from espalier.stages.failures import StageFailed
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.training.updates import Update, Updates
from espalier_cluster.command import app
from espalier_cluster.resume import remove_replaced, repeated_stage_messages
from support.tiny import tiny_job, write_job

FASTER = "stages.heal.optimizer.lr=0.001"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job file of a run that is done."""
    root = tmp_path_factory.mktemp("done")
    stages = [one for one in tiny_job(root)["stages"] if one["name"] in ("parent", "slim", "heal")]
    job = write_job(root, stages=stages)
    assert espalier("run", job, "--in-process").exit_code == ExitCode.DONE
    return job


@pytest.fixture
def job(finished: Path, tmp_path: Path) -> Path:
    """The same, in a storage of its own."""
    shutil.copytree(finished.parent / "runs", tmp_path / "runs")
    copy = tmp_path / "job.yaml"
    copy.write_text(finished.read_text().replace(f"{finished.parent}/runs", f"{tmp_path}/runs"))
    return copy


def espalier(*words: object):
    return CliRunner().invoke(app, [*map(str, words)])


def folder_of(job: Path) -> RunFolder:
    return RunFolder(job.parent / "runs" / "tiny")


def test_a_finished_run_says_so(job: Path) -> None:
    status = json.loads(espalier("status", folder_of(job).path, "--json").output)
    assert (status["state"], status["exit_code"], status["last_sign"], status["notes"]) == ("done", 0, None, [])
    assert (status["stage"]["num_done"], status["stage"]["step"], status["stage"]["name"]) == (3, 6, "heal")
    assert (status["checkpoint"]["stage"], status["checkpoint"]["step"]) == ("heal", 6)
    assert 0 < status["checkpoint"]["age_seconds"] < 600 and status["checkpoint"]["num_workers"] == 1
    assert [(one["stage"], one["end"], list(one["hosts"].values())) for one in status["attempts"]] == [
        (stage, "done", [1]) for stage in ("parent", "slim", "heal")
    ]
    assert 0 < status["goodput"]["ratio"] <= 1
    assert espalier("wait", folder_of(job).path).exit_code == 0


def model(job: Path, stage: str) -> Manifest:
    """The manifest of what a stage has come to, every file of which is held to its hash."""
    result = folder_of(job).result(stage)
    assert result is not None and result.checkpoint is not None
    return StateReader.open(folder_of(job).files, result.checkpoint).manifest


def stop_before(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Updates.take

    def stopped(updates: Updates, number: int) -> Update:
        if number + 1 == step:
            raise StageFailed("stopped", f"before step {step}")
        return take(updates, number)

    monkeypatch.setattr(Updates, "take", stopped)


def test_a_trained_stage_stays_until_it_is_trained_again(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, shorter = model(job, "heal"), [FASTER, "stages.heal.budget.steps=4"]
    with monkeypatch.context() as patch:
        stop_before(4, patch)
        assert espalier("run", job, "--in-process", *shorter).exit_code == ExitCode.RESUMABLE
    assert model(job, "heal") == before
    assert model_at(job, "step-00000002").state["key"] != before.state["key"]
    assert espalier("export", folder_of(job).path, "heal", job.parent / "out").exit_code == ExitCode.DONE
    assert espalier("run", job, "--in-process", *shorter).exit_code == ExitCode.DONE
    after = model(job, "heal")
    assert after.origin.step == 4 and after.origin.attempt > before.origin.attempt
    assert {model_at(job, name).state["key"] for name in steps(job)} == {after.state["key"]}
    assert all(len(folder_of(job).files.list(f"stages/heal/{name}")) == 2 for name in steps(job))


def steps(job: Path) -> list[str]:
    return [name for name in folder_of(job).files.list("stages/heal") if name.startswith("step-")]


def test_checkpoints_replaced_before_a_kill_are_removed_by_the_next_start(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = "stages.heal.budget.steps=4"
    monkeypatch.setattr("espalier.worker.run_stage._forget_replaced", lambda context, result: None)
    assert espalier("run", job, "--in-process", shorter).exit_code == ExitCode.DONE
    assert "step-00000006" in steps(job)
    remove_replaced(prepare(read_job(job, [shorter])), folder_of(job))
    assert steps(job) == ["step-00000002", "step-00000004"]


def test_a_model_that_is_made_in_one_go_stays_until_the_new_one_is_whole(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model(job, "slim")

    def full(*given: object, **more: object) -> None:
        raise StageFailed("storage", "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("espalier.saving.states.commit_save", full)
        assert espalier("run", job, "--in-process", "stages.slim.target.ffn=41").exit_code == ExitCode.RESUMABLE
    assert model(job, "slim") == before
    assert espalier("run", job, "--in-process", "stages.slim.target.ffn=41").exit_code == ExitCode.DONE
    assert model(job, "slim").origin.model["intermediate_size"] == 41
    assert len(folder_of(job).files.list("stages/slim/step-00000000")) == 2


def test_returning_to_earlier_settings_reuses_their_result(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model(job, "heal")
    with monkeypatch.context() as patch:
        stop_before(4, patch)
        espalier("run", job, "--in-process", FASTER)
    begun = model_at(job, "step-00000002")
    assert espalier("run", job, "--in-process").exit_code == ExitCode.DONE
    assert model(job, "heal") == before and model_at(job, "step-00000002") == begun
    third = espalier("run", job, "--in-process", "stages.heal.optimizer.lr=0.002")
    assert isinstance(third.exception, RefusedInput) and "resume=never" in str(third.exception)
    assert model(job, "heal") == before and model_at(job, "step-00000002") == begun


def model_at(job: Path, step: str) -> Manifest:
    return load_manifest(folder_of(job).files, f"stages/heal/{step}")


Change = Callable[[Path], list[str]]


def other_setting(job: Path) -> list[str]:
    return [FASTER]


def other_text(job: Path) -> list[str]:
    text = job.parent / "text"
    shutil.copytree(Path(tiny_text(job)), text)
    (text / "more.txt").write_text("the king speaks to the queen " * 40)
    return [f"data.train.files=[{text}/*.txt]"]


def tiny_text(job: Path) -> str:
    import yaml

    return str(Path(yaml.safe_load(job.read_text())["data"]["train"]["files"][0]).parent)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_setting, {"heal": "`stages.heal.optimizer.lr` is 0.001, was 0.003"}),
        (other_text, {"slim": "data", "heal": "data"}),
    ],
)
def test_plan_and_run_say_what_is_done_again_and_why(
    job: Path, change: Change, words: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = change(job)
    planned = espalier("plan", job, *overrides).output
    stop_before(1, monkeypatch)
    ran = espalier("run", job, "--in-process", *overrides).output
    for output in (planned, ran):
        for stage, word in words.items():
            (line,) = [line for line in output.splitlines() if line.startswith(f"{stage} is done again")]
            assert word in line and "stays until" in line


def test_files_that_changed_under_the_same_names_are_told(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    prepared, folder = prepare(read_job(job)), folder_of(job)
    prepared.write_down(folder)
    for stage in prepared.plan.stages:
        folder.write_result(StageResult(stage.name, stage.config.kind, stage.key, "done", None))
    assert repeated_stage_messages(prepare(read_job(job)), folder) == []
    (tmp_path / "text" / "work-00.txt").write_text("the king speaks " * 100)
    told = repeated_stage_messages(prepare(read_job(job)), folder)
    assert [line.split()[0] for line in told] == ["parent", "slim", "heal", "score", "out"]
    assert all("what the files of `data` hold has changed" in line for line in told)


def test_a_stage_is_done_again_as_its_input_is(tmp_path: Path) -> None:
    job = write_job(tmp_path)
    prepared, folder = prepare(read_job(job)), folder_of(job)
    for stage in prepared.plan.stages:
        folder.write_result(StageResult(stage.name, stage.config.kind, f"old-{stage.key}", "done", None))
    told = repeated_stage_messages(prepared, folder)
    assert told[0] == "parent is done again: it was made with other settings or files."
    assert told[1] == "slim is done again: parent is."


def test_storage_that_is_removed_during_a_run_is_reported(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = Updates.take

    def gone(updates: Updates, number: int) -> Update:
        if number == 2:
            folder_of(job).path.rename(job.parent / "elsewhere")
        return take(updates, number)

    monkeypatch.setattr(Updates, "take", gone)
    ran = espalier("run", job, "--in-process", FASTER)
    assert ran.exit_code == ExitCode.ERROR and not folder_of(job).path.exists()
    assert f"the run's folder {folder_of(job).path} is gone" in ran.output and "taken" not in ran.output


def test_a_finished_stage_may_have_been_moved_away_with_a_link_left_behind(job: Path) -> None:
    (folder_of(job).path / "stages" / "heal").rename(job.parent / "cold")
    (folder_of(job).path / "stages" / "heal").symlink_to(job.parent / "cold")
    ran = espalier("run", job, "--in-process")
    assert ran.exit_code == ExitCode.DONE and "nothing to do" in ran.output
