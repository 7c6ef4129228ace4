"""What is told of a run and of a storage's runs, from their folders."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_runs import NOW, PLAN, beat, lock, made_run, result, steps

from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.status import run_status
from espalier.status.run_list import list_runs
from espalier.status.run_status import RunStatus, read_status
from espalier.tracking.attempts import ATTEMPTS, AttemptLog
from espalier.tracking.links import FILE, write_link
from espalier.tracking.record import STEPS
from espalier.tracking.time_log import TIME, TimeLog
from framework.tracking.samples import step


def told(folder: RunFolder, **how: Any) -> RunStatus:
    return read_status(folder, now=NOW, **how)


def working(storage: Path) -> RunFolder:
    """A run at step 3 of its second stage, in its third attempt there."""
    folder = made_run(storage)
    beat(folder, stage="heal", attempt=5)
    result(folder, "parent", "k1")
    steps(folder, [replace(step(number), time=NOW - 20 + number, flops=10.0 * number) for number in (1, 2, 3)])
    log = AttemptLog(folder.path / ATTEMPTS)
    for attempt, end in ((1, "done"), (2, "preempted"), (3, "worker_lost"), (4, "resized")):
        log.ordered("parent" if attempt == 1 else "heal", attempt)
        log.placed({"a": 1, "b": 1})
        log.ended(end)  # type: ignore[arg-type]
    log.ordered("heal", 5)
    log.placed({"a": 2})
    return folder


def test_a_run_that_works(tmp_path: Path) -> None:
    found = told(working(tmp_path))
    stage = found.stage
    assert (found.standing.state, stage.name, stage.number, stage.num_stages, stage.num_done) == (
        *("running", "heal", 2, 3, 1),
    )
    assert (stage.step, stage.num_steps, stage.loss, stage.tokens_per_second) == (3, 7, 2.5, 512.0)
    assert stage.remaining_seconds == 8.0, "four steps of two seconds"
    assert stage.run_remaining_seconds == 8.0 + 28.0, "and 140 FLOPs at 10 in two seconds"
    assert stage.step_age_seconds == 17.0
    assert (len(found.attempts), found.num_failures, found.num_preemptions, found.hosts) == (5, 1, 1, {"a": 2})
    assert found.next_step == f"espalier stop {tmp_path}/slim"


def test_an_attempt_whose_driver_was_killed_counts_as_a_failure(tmp_path: Path) -> None:
    folder = working(tmp_path)
    beat(folder, stage="heal", attempt=5, age=1000)
    found = told(folder)
    assert (found.standing.state, found.num_failures, found.attempts[-1].message) == ("lost", 2, run_status.KILLED)
    assert found.next_step == f"espalier run {tmp_path}/slim/job.json"


def test_how_to_go_on_is_what_it_was_started_with(tmp_path: Path) -> None:
    folder = made_run(tmp_path, "it's")
    folder.write_json("job.json", {"resume": "never"})
    beat(folder, age=99, exit_code=75, options=("--address", "auto", "--insecure"))
    path = f"'{tmp_path}/it'\"'\"'s/job.json'"
    assert told(folder).next_step == f"espalier run {path} --address auto --insecure resume=auto"
    beat(folder, age=99, exit_code=1, options=("--address", "auto"))
    folder.write_json("job.json", {"resume": "auto"})
    assert told(folder).next_step == f"espalier run {path} --address auto"


def test_a_loss_that_is_no_number_has_none(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, stage="heal", attempt=1)
    steps(folder, [step(1, loss=math.nan)])
    assert told(folder).stage.loss is None and told(folder).stage.step == 1


def test_an_ended_run_is_at_the_first_stage_without_a_result(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    beat(folder, age=99, exit_code=75, stage="more", attempt=9)
    result(folder, "parent", "k1")
    assert told(folder).stage.name == "heal"
    result(folder, "heal", "k2", status="gate_failed", gate="nll 3 > 2")
    assert told(folder).stage.name == "heal" and told(folder).stage.num_done == 1


def test_goodput_ends_with_the_driver(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    times = TimeLog(folder.path / TIME)
    times.record("waiting", time=NOW - 1000)
    times.record("working", "heal", time=NOW - 900)
    beat(folder, age=400)
    goodput = told(folder).goodput
    assert goodput is not None and (goodput.waiting, goodput.useful) == (100, 500)
    beat(folder)
    goodput = told(folder).goodput
    assert goodput is not None and goodput.useful == 900


def test_a_page_is_told_until_the_run_begins_anew(tmp_path: Path) -> None:
    folder = made_run(tmp_path)
    write_link(folder, folder.ids()["wandb_id"], "wandb", "https://wandb.ai/we/espalier/runs/w1")
    write_link(folder, folder.ids()["wandb_id"], "other", "javascript:alert(1)")
    assert told(folder).links == {"wandb": "https://wandb.ai/we/espalier/runs/w1"}
    write_link(folder, "another", "wandb", "https://wandb.ai/we/espalier/runs/w2")
    assert told(folder).links == {}
    (folder.path / FILE).write_text(json.dumps({"run": folder.ids()["wandb_id"], "pages": {"wandb": "x\x1b[2J"}}))
    assert told(folder).links == {}


def test_a_store_that_does_not_answer_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made_run(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(run_status, "newest_step", fail)
    assert told(folder).notes[-1] == "the checkpoints cannot be read: ConnectionError: no route"
    monkeypatch.setattr(run_status, "_STORE_SECONDS", 0.05)
    monkeypatch.setattr(run_status, "newest_step", lambda *_: time.sleep(0.5))
    assert "did not answer" in told(folder).notes[-1]


def test_a_plan_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    folder = made_run(tmp_path, plan=[*PLAN, PLAN[0]])
    with pytest.raises(RefusedInput, match=r"plan\.json"):
        told(folder)


def test_the_runs_of_a_storage(tmp_path: Path) -> None:
    working(tmp_path)
    beat(made_run(tmp_path, "old"), age=9e5, exit_code=0, stage="more", reason="all stages are done")
    made_run(tmp_path, "bad", plan=7)
    made_run(tmp_path, "never")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "run.json").write_text('{"run_id": "r1", "loss": 0.3}')
    (tmp_path / "photos").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    content = list_runs(tmp_path, now=NOW)
    assert content.strangers == ("photos",)
    assert {line.name: line.state for line in content.runs} == {
        **{"slim": "running", "old": "done", "bad": "unreadable", "never": "stopped", "theirs": "unreadable"},
    }
    first, second, *_ = content.runs
    assert (first.name, first.stage and first.stage.step, first.heard, second.name) == ("slim", 3, NOW, "old")
    assert "plan.json" in next(line.reason for line in content.runs if line.name == "bad")


def test_the_seeds_of_a_job_are_told_with_it(tmp_path: Path) -> None:
    folder = made_run(tmp_path, plan=None)
    beat(folder)
    for seed, code in ((3, 0), (4, None)):
        beat(made_run(folder.path, f"slim-seed-{seed}"), exit_code=code)
    made_run(folder.path, "another")
    found = told(folder)
    assert found.standing.state == "running" and [line.state for line in found.seeds] == ["done", "running"]


def test_little_is_read_of_long_records(tmp_path: Path) -> None:
    folder = working(tmp_path)
    path = folder.path / STEPS
    last = path.read_bytes().splitlines(keepends=True)[-1]
    with path.open("wb") as file:
        file.truncate(2**40)  # reading it would take minutes
        file.seek(2**40)
        file.write(b"\n" + last)
    assert told(folder).stage.step == 3
    lock(folder)
    (line,) = list_runs(tmp_path, now=NOW).runs
    assert line.stage is not None and line.stage.step == 3
