"""The state of a run: what counts when heartbeat, lock, submission and recorded ends say different things."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from made_runs import NOW, beat, lock, made_run, result, touch

from espalier.stages.run_folder import RunFolder
from espalier.stages.stop_wish import StopWish, write_wish
from espalier.stages.submissions import Submission, Submissions
from espalier.status.liveness import is_renewed
from espalier.status.standing import Standing, read_standing
from espalier.tracking.driver_file import FILE

FIRST, SECOND = "espalier-slim-1-00000000", "espalier-slim-2-00000000"


def stands(folder: RunFolder, **how: Any) -> Standing:
    return read_standing(folder, now=NOW, **how)


def submitted(folder: RunFolder, submission_id: str, *, age: float = 5.0) -> Submission:
    number = int(submission_id.split("-")[2])
    made = Submission(
        id=submission_id,
        number=number,
        job_file=f"job-{'0' * 32}.json",
        session="session_1",
        address="auto",
        submitted=NOW - age,
        versions={},
    )
    folder.write_json(f"submits/{number:06d}.json", made.model_dump())
    return made


def begun(folder: RunFolder, submission: Submission, *, age: float) -> None:
    Submissions(folder).begin(submission, host="head", pid=7)
    touch(folder.path / "submits" / f"{submission.number:06d}.begun.json", age)


@pytest.mark.parametrize(("age", "state"), [(3, "running"), (59, "running"), (61, "lost"), (9e6, "lost")])
@pytest.mark.parametrize("is_locked", [False, True])
def test_a_run_is_never_running_on_an_old_heartbeat(tmp_path: Path, age: float, state: str, is_locked: bool) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=age)
    if is_locked:
        lock(folder, age=age)
    found = stands(folder)
    assert found.state == state and found.exit_code == (None if state == "running" else 75)
    assert found.sign is not None and found.sign.age_seconds == pytest.approx(age) and found.sign.host == "node-7"


def test_a_process_that_was_killed_on_this_host_is_lost_at_once(tmp_path: Path) -> None:
    folder, here = made_run(tmp_path), {"host": os.uname().nodename, "pid": 2**22 + 5}
    beat(folder, age=1, **here)
    lock(folder, age=1, here=True, pid=here["pid"])
    assert stands(folder).state == "lost"


def test_a_process_of_this_host_lives_whatever_the_clock_says(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=300, stored_age=300, pid=os.getpid(), host=os.uname().nodename)
    lock(folder, age=1, here=True)
    found = stands(folder)
    assert found.state == "running" and found.sign is not None and found.sign.age_seconds == pytest.approx(1)


@pytest.mark.parametrize(
    ("age", "stored_age", "note"),
    [
        (300, 2, "the clock of node-7 is 298 s behind the storage's"),  # or a copy of the folder
        (-300, 2, "the clock of node-7 is 302 s ahead of the storage's"),
        (-300, -300, "its last sign is 300 s in the future"),
        (2, 300, "the clock of node-7 is 298 s ahead of the storage's"),
    ],
)
def test_clocks_that_disagree_are_watched_and_mentioned(
    tmp_path: Path, age: float, stored_age: float, note: str
) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=age, stored_age=stored_age)
    found = stands(folder)
    assert found.state == "lost" and any(note in one for one in found.notes)
    assert stands(folder, watch=lambda: True).state == "running"


def test_a_small_difference_of_clocks_is_no_reason_to_doubt(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=-20)
    found = stands(folder, watch=lambda: pytest.fail("not doubted"))
    assert found.state == "running" and "20 s in the future" in found.notes[0]


def test_watching_sees_the_next_heartbeat_by_its_own_clock(tmp_path: Path) -> None:
    folder, slept = made_run(tmp_path), []
    beat(folder, age=500)
    assert not is_renewed(folder, sleep=slept.append) and 10 < sum(slept) < 60

    def renew(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            beat(folder, age=490)

    slept.clear()
    assert is_renewed(folder, sleep=renew) and len(slept) == 3


@pytest.mark.parametrize(
    ("code", "state"),
    [(0, "done"), (1, "failed"), (2, "refused"), (3, "gate_failed"), (75, "stopped"), (137, "failed")],
)
def test_a_recorded_end_is_the_state_however_old(tmp_path: Path, code: int, state: str) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=9e5, exit_code=code, reason="so it was")
    found = stands(folder)
    assert (found.state, found.exit_code, found.reason) == (state, code, "so it was")
    lock(folder, age=1, since=NOW - 1e6)
    assert stands(folder).state == state, "of the same process, which has not let go of it yet"


@pytest.mark.parametrize("known", [{"pid": 99}, {"since": NOW - 50.0}])  # the second: number and host of a container
def test_after_an_end_another_process_that_holds_the_lock_is_a_driver_that_starts(
    tmp_path: Path, known: dict[str, Any]
) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=1000, exit_code=75, started=NOW - 2000)
    lock(folder, **known)
    found = stands(folder)
    assert (found.state, found.waits_for, found.exit_code) == ("waiting", "its driver to start", None)


def test_what_it_waits_for_and_that_it_stops_are_told(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, waits_for="room on the cluster: run big holds 8 GPUs")
    assert stands(folder).waits_for == "room on the cluster: run big holds 8 GPUs"
    beat(folder, is_stopping=True, waits_for="the workers to start")
    assert stands(folder).state == "stopping"
    beat(folder)
    write_wish(folder, StopWish(submission=SECOND))
    assert stands(folder).state == "running", "the wish is for another driver"
    write_wish(folder, StopWish())
    assert stands(folder).state == "stopping", "the driver has not heard of it yet"


def test_a_submission_waits_begins_and_is_lost(tmp_path: Path) -> None:
    folder = made_run(tmp_path, plan=None)
    submission = submitted(folder, FIRST)
    assert stands(folder).waits_for == "the cluster at auto to start its driver"
    begun(folder, submission, age=30)
    assert stands(folder).waits_for == "its driver to read the job's data"
    begun(folder, submission, age=90)
    assert stands(folder).state == "lost", "killed before it had the lock"
    Submissions(folder).end(submission, exit_code=2, reason="data.train: no such file")
    assert (stands(folder).state, stands(folder).reason) == ("refused", "data.train: no such file")


def test_a_submission_that_no_cluster_takes_up_is_lost(tmp_path: Path) -> None:
    folder = made_run(tmp_path, plan=None)
    submitted(folder, FIRST, age=1000)
    assert "has not started its driver" in stands(folder).reason


def test_after_a_resume_the_former_end_does_not_count(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    Submissions(folder).end(submitted(folder, FIRST), exit_code=75, reason="")
    beat(folder, age=500, exit_code=75, submission=FIRST, num_submissions=1)
    assert stands(folder).state == "stopped"
    second = submitted(folder, SECOND)
    assert stands(folder).state == "waiting"
    begun(folder, second, age=1)
    beat(folder, submission=SECOND, num_submissions=2)
    assert stands(folder).state == "running"


def test_an_end_that_only_the_submission_has_recorded_counts(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    first = submitted(folder, FIRST)
    beat(folder, age=500, submission=FIRST, num_submissions=1)
    assert stands(folder).state == "lost"
    Submissions(folder).end(first, exit_code=1, reason="a bug")
    assert (stands(folder).state, stands(folder).reason) == ("failed", "a bug")
    beat(folder, age=50, submission=None, num_submissions=1)  # a person went on with it
    assert stands(folder).state == "running"
    beat(folder, age=80, submission=None, num_submissions=1)
    assert stands(folder).state == "lost", "the end of the submission is an earlier driver's"


def test_a_refused_second_driver_does_not_hide_the_first(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder)
    Submissions(folder).end(submitted(folder, FIRST), exit_code=2, reason="in use")
    assert stands(folder).state == "running"


def test_a_run_without_heartbeats_is_told_by_its_results(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    assert stands(folder).state == "stopped"
    lock(folder)
    assert stands(folder).state == "waiting"
    lock(folder, age=100)
    assert stands(folder).state == "lost"
    (folder.path / "lock").unlink()
    for stage, key in (("parent", "k1"), ("heal", "k2"), ("more", "old")):
        result(folder, stage, key)
    assert stands(folder).state == "stopped", "one result is of other settings"
    result(folder, "more", "k3")
    assert stands(folder).state == "done"
    result(folder, "heal", "k2", status="gate_failed", gate="nll 3 > 2")
    assert stands(folder).state == "gate_failed" and "nll 3 > 2" in stands(folder).reason


@pytest.mark.parametrize("content", [b"", b"[]", b'{"host": 3}', b"[" * 10**5, b"x" * 10**6])
@pytest.mark.parametrize("name", [FILE, "lock", "stop.json"])
def test_something_else_in_a_file_s_place_is_no_sign_of_life(tmp_path: Path, name: str, content: bytes) -> None:
    folder = made_run(tmp_path)
    (folder.path / name).write_bytes(content)
    touch(folder.path / name, 1e6)
    found = stands(folder)
    assert found.state in ("stopped", "lost") and (found.notes or name != FILE)


def test_a_pipe_and_a_link_are_not_read(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    os.mkfifo(folder.path / FILE)
    assert stands(folder).state == "stopped" and FILE in stands(folder).notes[0]
    (folder.path / FILE).unlink()
    (tmp_path / "theirs").write_text("secret")
    (folder.path / FILE).symlink_to(tmp_path / "theirs")
    (note,) = stands(folder).notes
    assert "link" in note and "secret" not in note
