"""Resuming with changed settings: a change that keeps the result is noted, one that alters it is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from espalier.checkpoint.write import begin, commit, write_fragments
from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import PreparedJob, prepare
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.storage.local import LocalStorage
from espalier.tracking.events import EVENTS, read_events
from espalier_cluster.command import app
from espalier_cluster.resume import apply_resume
from framework.checkpoint.checkpoint_cases import SHAPES, cut, make_origin, make_tensors
from support.tiny import write_job, write_model

STEP = "stages/heal/step-00000004"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A run that was stopped after step 4 of `heal`."""
    path = write_job(tmp_path)
    begun = prepare(read_job(path))
    folder = RunFolder.of(begun.job)
    begun.write_down(folder)
    save(folder, begun.plan["heal"].key)
    return path


def save(folder: RunFolder, key: str) -> None:
    storage = LocalStorage(folder.path)
    (fragments,) = cut(make_tensors(3), num_ranks=1)
    begin(storage, STEP, attempt=1)
    ranks = [write_fragments(storage, STEP, fragments=fragments, rank=0, attempt=1)]
    origin = make_origin(step=4, attempt=1, num_ranks=1)
    commit(storage, STEP, origin=origin, shapes=SHAPES, state={"key": key}, ranks=ranks)


def finish(folder: RunFolder, key: str) -> None:
    folder.write_result(StageResult("heal", "distill", key, "done", STEP))


def go_on(job: Path, *overrides: str) -> tuple[PreparedJob, RunFolder]:
    prepared = prepare(read_job(job, overrides))
    folder = RunFolder.of(prepared.job)
    apply_resume(prepared, folder)
    return prepared, folder


def notes(folder: RunFolder) -> list[str]:
    return [event.message for event in read_events(folder.path / EVENTS) if event.kind == "note"]


def refusal(job: Path, *overrides: str) -> list[str]:
    folder = RunFolder.of(read_job(job))
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    with pytest.raises(RefusedInput) as refused:
        go_on(job, *overrides)
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before
    return [str(fault) for fault in refused.value.faults]


def test_the_same_settings_resume_without_a_message(job: Path) -> None:
    _, folder = go_on(job)
    assert notes(folder) == [] and (folder.path / STEP).exists()


def test_a_change_that_keeps_the_result_is_noted(job: Path) -> None:
    way = ["stages.heal.checkpoint.every=3", "stages.heal.zero_level=gradients", "workers.count=2"]
    _, folder = go_on(job, *way, "stages.score.sequences=4")
    assert sorted(notes(folder)) == [
        "`stages.heal.checkpoint.every` is 3 from here on; it was 2",
        "`stages.heal.zero_level` is 'gradients' from here on; it was 'none'",
        "`workers.count` is 2 from here on; it was 1",
    ]
    assert (folder.path / STEP).exists()


@pytest.mark.parametrize(
    ("path", "new", "old"),
    [
        ("stages.heal.optimizer.lr", "0.001", "0.003"),
        ("stages.heal.batch.sequences", "16", "8"),
        ("stages.heal.budget.steps", "9", "6"),
        ("stages.slim.target.ffn", "41", "37"),
        ("data.sequence_tokens", "16", "32"),
        ("seed", "4", "3"),
        ("dtype", "bfloat16", "float32"),
        ("checkpoints", "/dev/shm/other", "None"),
    ],
)
def test_a_change_that_alters_the_result_is_refused(job: Path, path: str, new: str, old: str) -> None:
    (said,) = refusal(job, f"{path}={new}")
    assert said.startswith(f"`{path}` is ") and new in said.split(";")[0]
    assert f"checkpoints of stage heal were made with ({old!r})" in said or f"made with ({old})" in said
    assert "`resume=never`" in said and "another name" in said and len(said) < 400


def test_all_refused_changes_are_reported_at_once(job: Path) -> None:
    said = refusal(job, "stages.heal.optimizer.lr=0.001", "seed=4", "stages.heal.checkpoint.every=3")
    assert [line.split("`")[1] for line in said] == ["seed", "stages.heal.optimizer.lr"]


def test_other_text_under_the_same_name_is_refused(job: Path) -> None:
    (job.parent / "text" / "work-00.txt").write_text("all is new")
    assert "`stages.heal` has checkpoints made from other text" in refusal(job)[0]


def test_another_model_under_the_same_name_is_refused(job: Path) -> None:
    write_model(job.parent / "model", seed=2)
    assert "other model or tokenizer files" in refusal(job)[0]


@pytest.mark.parametrize("version", [None, 3])
def test_a_run_of_another_code_version_is_refused_with_the_reason(job: Path, version: int | None) -> None:
    folder = RunFolder.of(read_job(job))
    plan = json.loads((folder.path / "plan.json").read_text())
    for entry in plan:
        entry |= {"code_version": version}
        if version is None:
            del entry["code_version"]
    folder.write_json("plan.json", plan)
    go_on(job)  # under the same key nothing is asked
    shutil.rmtree(folder.path / STEP)
    save(folder, "a key of that version")
    (said,) = refusal(job, "stages.heal.optimizer.lr=0.001")
    assert said.startswith("`stages.heal` has checkpoints of another espalier, of code version 3")
    assert (
        "keys hold the files and begin tokens of tokenizers" in said
        and "`resume=never`" in said
        and said.count(". ") == 0
    )


def test_the_command_refuses_before_anything_starts(job: Path) -> None:
    outcome = CliRunner().invoke(app, ["run", str(job), "--in-process", "stages.heal.optimizer.lr=0.001"])
    assert isinstance(outcome.exception, RefusedInput), outcome.output
    folder = RunFolder.of(read_job(job))
    assert json.loads((folder.path / "job.json").read_text())["stages"][2]["optimizer"]["lr"] == 0.003
    assert not (folder.path / "records").exists()


def test_the_remedies_work(job: Path) -> None:
    other = job.with_name("other.yaml")
    other.write_text(job.read_text().replace("heal", "heal-slower"))
    _, folder = go_on(other, "stages.heal-slower.optimizer.lr=0.001")
    assert (folder.path / STEP).exists()
    go_on(job, "stages.heal.optimizer.lr=0.001", "resume=never")
    assert not (folder.path / "stages").exists()


def test_a_stage_that_is_done_may_be_done_again_otherwise(job: Path) -> None:
    prepared, folder = go_on(job)
    finish(folder, prepared.plan["heal"].key)
    go_on(job, "stages.heal.optimizer.lr=0.001", "stages.heal.checkpoint.every=3")
    assert notes(folder) == []


def test_checkpoints_of_other_settings_are_refused_although_the_stage_has_a_result(job: Path) -> None:
    _, folder = go_on(job)
    finish(folder, "earlier")
    assert refusal(job, "stages.heal.optimizer.lr=0.001")


def test_going_back_into_a_stage_that_is_done_takes_its_settings(job: Path) -> None:
    prepared, folder = go_on(job)
    finish(folder, prepared.plan["heal"].key)
    back = f"resume={folder.path / STEP}"
    assert refusal(job, back, "stages.heal.optimizer.lr=0.001")
    go_on(job, back)
    assert (folder.path / STEP).exists() and folder.result("heal") is None


def test_checkpoints_whose_job_is_not_known_any_more_are_not_thrown_away(job: Path) -> None:
    folder = RunFolder.of(read_job(job))
    (folder.path / "job.json").write_text("{}")
    assert "`stages.heal` has checkpoints" in refusal(job, "stages.heal.optimizer.lr=0.001")[0]
