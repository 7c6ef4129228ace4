"""Submitting: a run is there once, at whatever instant the client dies, and a refused one leaves nothing."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest
from jobs_stand_in import Clock, StandIn, client, job

from espalier.checkpoint.lock import RunLock
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.load import read_job
from espalier.stages.findings import Check, Findings
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submissions
from espalier.storage.local import LocalStorage
from espalier_cluster.jobs_server import JobState, ServerAway
from espalier_cluster.preflight_table import Preflight
from espalier_cluster.secret_text import refuse_secrets
from espalier_cluster.submit import Client, submit
from espalier_cluster.submitted import drive_submission

__all__ = ["job"]


class Killed(BaseException):
    """The client dies."""


def refusal(job: Job, server: StandIn) -> str:
    with pytest.raises(RefusedInput) as refused:
        submit(job, client(server))
    (fault,) = refused.value.faults
    return str(fault)


def test_the_driver_is_a_plain_process_that_runs_the_resolved_job(job: Job) -> None:
    server = StandIn()
    told = submit(job, client(server))
    assert told.is_new and told.has_begun
    assert told.submission.id.startswith("espalier-slim-1-")
    command, run, job_file, *options = shlex.split(server.entrypoints[told.submission.id])
    assert [command, run, *options] == ["espalier", "run", "--address", "auto", "--submission", told.submission.id]
    assert read_job(Path(job_file)) == job and Path(job_file).parent.name == "submits"


def test_a_repeated_submit_finds_the_job(job: Job) -> None:
    server = StandIn()
    first = submit(job, client(server))
    again = submit(job, client(server))
    assert again.submission == first.submission and not again.is_new and len(server.jobs) == 1


def test_after_an_end_the_next_submit_is_another_attempt(job: Job) -> None:
    server = StandIn()
    first = submit(job, client(server)).submission
    server.end(first.id, exit_code=75)
    second = submit(job, client(server)).submission
    assert second.id.startswith("espalier-slim-2-") and len(server.jobs) == 2


def test_another_job_of_the_same_name_is_refused_while_the_first_goes_on(job: Job) -> None:
    server = StandIn()
    submit(job, client(server))
    assert "with other settings" in refusal(job.model_copy(update={"seed": 5}), server)
    assert len(server.jobs) == 1


def calls(monkeypatch: pytest.MonkeyPatch, server: StandIn, die_at: int | None) -> list[str]:
    """Number every effect on the storage and every request; die before or after the one that `die_at` names."""
    seen: list[str] = []

    def wrap(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def numbered(*arguments: Any, **options: Any) -> Any:
            for moment in ("before", "after"):
                seen.append(f"{moment} {name}")
                if die_at == len(seen):
                    raise Killed
                if moment == "before":
                    result = original(*arguments, **options)
            return result

        monkeypatch.setattr(owner, name, numbered)

    for name in ("write_bytes", "rename", "make_folder", "sync_folder", "remove"):
        wrap(LocalStorage, name)
    for name in ("start", "look", "remove"):
        wrap(server, name)
    return seen


def test_a_client_killed_at_any_instant_leaves_none_or_one(job: Job, tmp_path_factory: pytest.TempPathFactory) -> None:
    num_kills = 0
    for die_at in range(1, 1000):
        one, server = job.model_copy(update={"storage": str(tmp_path_factory.mktemp("killed"))}), StandIn()
        with pytest.MonkeyPatch.context() as patch:
            seen = calls(patch, server, die_at)
            try:
                submit(one, client(server))
                was_killed = False
            except Killed:
                was_killed = True
        assert len(server.jobs) <= 1, f"killed {seen[-1]}"
        found = set(server.jobs)
        told = submit(one, client(server))
        assert set(server.jobs) == {told.submission.id} >= found, f"killed {seen[-1]}: the next one finds it"
        assert told.is_new == (not found)
        if not was_killed:
            break
        num_kills += 1
    assert num_kills >= 30, num_kills


def test_a_lost_answer_starts_nothing_twice(job: Job) -> None:
    server = StandIn()
    original = server.start

    def start_and_lose(job_id: str, entrypoint: str, metadata: dict[str, str]) -> None:
        original(job_id, entrypoint, metadata)
        server.start = original  # type: ignore[method-assign]
        raise ServerAway("the answer was lost")

    server.start = start_and_lose  # type: ignore[method-assign]
    assert submit(job, client(server)).has_begun and len(server.jobs) == 1


def test_a_second_client_at_the_same_time_finds_the_first_ones_job(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    server = StandIn()
    original = Submissions.add

    def add_late(self: Submissions, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(Submissions, "add", original)
        submit(job, client(server))
        monkeypatch.setattr(Submissions, "_last_number", lambda self: 0)
        try:
            return original(self, *arguments, **options)
        finally:
            monkeypatch.undo()

    monkeypatch.setattr(Submissions, "add", add_late)
    told = submit(job, client(server))
    assert not told.is_new and list(server.jobs) == [told.submission.id]


def test_a_client_that_is_slow_to_ask_the_cluster_does_not_start_a_second_job(job: Job) -> None:
    server = StandIn()
    original = server.start

    def let_another_one_pass(job_id: str, entrypoint: str, metadata: dict[str, str]) -> None:
        server.start = original  # type: ignore[method-assign]
        submit(job, client(server))
        original(job_id, entrypoint, metadata)

    server.start = let_another_one_pass  # type: ignore[method-assign]
    submit(job, client(server))
    assert len(server.jobs) == 1


def test_a_job_that_waits_on_the_cluster_is_said_to(job: Job) -> None:
    def wait(server: StandIn, job_id: str) -> None:
        server.jobs[job_id] = JobState("PENDING")

    assert not submit(job, client(StandIn(on_start=wait))).has_begun


def test_another_ray_is_refused_before_anything_is_written(job: Job) -> None:
    assert "2.44.0" in refusal(job, StandIn(ray_version="2.44.0"))
    assert not Path(job.storage).exists()


@pytest.mark.parametrize(
    ("exit_code", "log", "told"),
    [
        (127, "sh: 1: espalier: not found", "has espalier"),
        (
            2,
            "warning: x\nrefused: `storage` is '/shared'; allowed: a folder that all share.\n",
            "a folder that all share",
        ),
        (1, "", "FAILED"),
    ],
)
def test_a_driver_that_does_not_start_is_told_of_and_leaves_nothing(
    job: Job, exit_code: int, log: str, told: str
) -> None:
    server = StandIn(on_start=lambda server, job_id: server.fail(job_id, exit_code=exit_code, log=log))
    assert told in refusal(job, server)
    assert not server.jobs and len(server.removed) == 1
    assert not RunFolder.of(job).path.exists()


def test_what_the_driver_has_found_is_told_and_leaves_nothing(job: Job) -> None:
    def refuse(server: StandIn, job_id: str) -> None:
        faults = [Fault("storage", "/shared", "a folder that every node shares", near="/share")]
        findings = Findings.of([Check(what="storage", state="bad", found="not shared")], faults, time=1.0)
        server.submissions(job_id).note_findings(server.submission(job_id), findings)
        server.submissions(job_id).end(server.submission(job_id), exit_code=2, reason="")
        server.fail(job_id, exit_code=2)

    told: list[Check] = []
    with pytest.raises(RefusedInput) as refused:
        submit(job, client(StandIn(on_start=refuse), on_checks=told.extend))
    assert str(refused.value) == (
        "`storage` is '/shared'; allowed: a folder that every node shares. Did you mean `/share`?"
    )
    assert [(one.what, one.state) for one in told] == [("cluster", "good"), ("storage", "bad")]
    assert not Path(job.storage).exists()


def test_a_job_that_ray_brings_back_is_removed_again(job: Job) -> None:
    server, clock = StandIn(on_start=lambda server, job_id: server.fail(job_id, exit_code=2)), Clock()
    num_removed = 0

    def bring_back(now: float) -> None:
        nonlocal num_removed
        if len(server.removed) > num_removed and num_removed < 2:
            num_removed = len(server.removed)
            server.fail(server.removed[-1], exit_code=2)

    clock.on_sleep = bring_back
    with pytest.raises(RefusedInput):
        submit(job, Client(server, sleep=clock.sleep, clock=clock))
    assert not server.jobs and len(server.removed) == 3


def test_findings_of_others_are_read_within_bounds(job: Job) -> None:
    server = StandIn()
    told = submit(job, client(server)).submission
    submissions = server.submissions(told.id)
    many = Findings.of([Check(what="data", state="good", found="")] * 99, [Fault("a" * 9999, None, "b")] * 99, time=1.0)
    submissions.note_findings(told, many)
    found = submissions.findings(told)
    assert found is not None and len(found.checks) == 32 and len(found.faults) == 64
    (RunFolder.of(job).path / "submits" / "000001.found.json").write_text('{"checks": 7, "time": 1.0}')
    with pytest.raises(RefusedInput, match="record of a submission"):
        submissions.findings(told)


def test_a_failed_start_keeps_what_an_earlier_one_left(job: Job) -> None:
    server = StandIn()
    first = submit(job, client(server)).submission
    server.end(first.id, exit_code=75)
    server.on_start = lambda server, job_id: server.fail(job_id, exit_code=1)
    refusal(job, server)
    assert Submissions(RunFolder.of(job)).newest() == first and list(server.jobs) == [first.id]


def test_a_run_that_somebody_drives_is_not_submitted(job: Job) -> None:
    server = StandIn()
    server.end(submit(job, client(server)).submission.id)
    with RunLock(RunFolder.of(job).path / "lock", job=job.name):
        assert f"process {os.getpid()}" in refusal(job, server)


def test_a_folder_of_something_else_is_refused(job: Job) -> None:
    folder = RunFolder.of(job).path
    folder.mkdir(parents=True)
    (folder / "thesis.tex").touch()
    assert "thesis.tex" in refusal(job, StandIn())
    assert os.listdir(folder) == ["thesis.tex"]


def test_another_cluster_is_another_attempt_once_the_first_is_gone(job: Job) -> None:
    submit(job, client(StandIn()))
    other = StandIn(session="session_2")
    assert submit(job, client(other)).submission.number == 2


def test_a_token_in_a_job_is_refused_without_being_shown(job: Job) -> None:
    key = "hf_" + "a1B2" * 9
    with pytest.raises(RefusedInput) as refused:
        refuse_secrets(job.model_copy(update={"storage": f"/shared/{key}"}), {})
    assert "`storage` holds an access token" in str(refused.value) and key not in str(refused.value)
    with pytest.raises(RefusedInput, match="`name`"):
        refuse_secrets(job.model_copy(update={"name": "hunter22-secret"}), {"MY_API_KEY": "hunter22-secret"})
    refuse_secrets(job, {"MY_API_KEY": "hunter22-secret"})


def test_a_driver_leaves_its_log_and_its_exit_code(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    server = StandIn(on_start=lambda server, job_id: None)
    told = submit(job, client(server, patience_seconds=1.0))
    submissions = server.submissions(told.submission.id)

    def end(preflight: Preflight) -> None:
        preflight.note("workers", "room for 1")
        preflight.passed()
        os.write(1, b"from a library\n")
        print("from Python")
        raise SystemExit(3)

    assert drive_submission(Path(submissions.job_path(told.submission)), told.submission.id, end) == 3
    ended = submissions.ended(told.submission)
    assert ended is not None and ended.exit_code == 3 and submissions.begun(told.submission) is not None
    log = (RunFolder.of(job).path / "logs" / "driver" / "000001.log").read_text()
    assert log == "from a library\nfrom Python\n" == capfd.readouterr().out


def test_a_driver_refuses_other_versions_and_a_storage_that_is_not_shared(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = StandIn(on_start=lambda server, job_id: None)
    told = submit(job, client(server, patience_seconds=1.0)).submission
    job_file = Path(server.submissions(told.id).job_path(told))
    with pytest.raises(RefusedInput, match="share"):
        drive_submission(job_file, "espalier-slim-9-00000000", pytest.fail)
    versions = {"espalier": "9.9", "ray": "2.60.0", "python": "3.9"}
    monkeypatch.setattr("espalier_cluster.submitted.own_versions", lambda: versions)
    assert drive_submission(job_file, told.id, pytest.fail) == 2
    submissions = server.submissions(told.id)
    findings = submissions.findings(told)
    assert findings is not None
    assert {fault.path.split()[0] for fault in findings.as_faults()} >= {"espalier", "python"}
    assert submissions.begun(told) is None
