"""The job that a run is resumed with, by its name alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from jobs_stand_in import StandIn, client, job

from espalier.config.faults import RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.schema import resolved
from espalier.stages.ownership import claim
from espalier.stages.run_folder import RunFolder
from espalier_cluster.named_run import STORAGE, find_run
from espalier_cluster.resume_point import find_resume_point
from espalier_cluster.resume_run import job_to_resume
from espalier_cluster.submit import submit

__all__ = ["job"]


@pytest.fixture
def folder(job: Job) -> RunFolder:
    folder = RunFolder.of(job)
    folder.make(job)
    claim(folder, versions={"espalier": "0.1.0"})
    folder.write_json("job.json", resolved(job))
    return folder


def refused(folder: RunFolder, *overrides: str) -> str:
    with pytest.raises(RefusedInput) as refused:
        job_to_resume(folder, overrides)
    return str(refused.value)


def test_the_last_started_job_goes_on(folder: RunFolder, job: Job) -> None:
    assert job_to_resume(folder) == job


def test_settings_that_change_no_result_are_taken(folder: RunFolder) -> None:
    job = job_to_resume(folder, ["workers.count=4", "retry.max_failures=9"])
    assert job.workers.count == 4 and job.retry.max_failures == 9


def test_settings_that_change_results_are_refused_by_name(folder: RunFolder) -> None:
    text = refused(folder, "seed=5")
    assert "`seed` is 5; allowed: 0, the value that the run was started with" in text
    assert "`name`" in refused(folder, "name=other")
    assert "workers.cuont" in refused(folder, "workers.cuont=4")


def test_a_note_of_a_former_resume_is_not_carried_out_again(folder: RunFolder, job: Job) -> None:
    folder.write_json("job.json", resolved(job.model_copy(update={"resume": "never"})))
    assert job_to_resume(folder).resume == "auto"


def test_a_run_that_no_driver_has_taken_up_goes_on_with_its_submission(job: Job) -> None:
    server = StandIn(on_start=lambda server, job_id: None)
    submit(job, client(server, patience_seconds=1.0))
    assert job_to_resume(RunFolder.of(job)) == job


def test_a_storage_that_is_mounted_elsewhere_is_where_the_run_goes_on(folder: RunFolder, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    folder.path.parent.rename(moved)
    assert job_to_resume(RunFolder(moved / "slim")).storage == str(moved)


def test_the_point_is_told_in_words(folder: RunFolder) -> None:
    assert str(find_resume_point(folder)) == "it begins with its first stage"
    folder.write_json("plan.json", [{"name": "parent", "kind": "load", "key": "k"}])
    assert str(find_resume_point(folder)) == "it goes on at the beginning of stage parent (1 of 1)"
    done = {"stage": "parent", "kind": "load", "key": "k", "status": "done", "checkpoint": None}
    folder.write_json("stages/parent/result.json", done)
    assert str(find_resume_point(folder)) == "all its stages are done"


def test_a_run_is_found_by_its_name_or_its_folder(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = folder.path.parent
    assert find_run("slim", storage) == find_run(str(folder.path)) == folder
    monkeypatch.setenv(STORAGE, str(storage))
    assert find_run("slim") == folder
    monkeypatch.chdir(storage)
    monkeypatch.delenv(STORAGE)
    assert find_run("slim") == find_run("./slim") == folder
    for wrong, told in (("slym", "Did you mean `slim`?"), ("../slim/..", "run.json"), ("Sl im", "the name of a run")):
        with pytest.raises(RefusedInput, match=told.replace("?", "[?]")):
            find_run(wrong)
