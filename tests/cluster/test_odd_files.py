"""Damaged small files of a run give one sentence that names the file: no traceback, no endless wait."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from espalier.config.faults import RefusedInput
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.stages.controller import ExitCode
from espalier.stages.ownership import claim
from espalier.stages.result import StageResult
from espalier.stages.run_folder import RunFolder
from espalier.tracking.driver_file import DriverFile, DriverRecord
from espalier.tracking.events import EVENTS, EventLog
from espalier.tracking.record import STEPS, StepLog
from espalier.tracking.time_log import TIME, TimeLog, end_killed_driver
from espalier_cluster.command import app
from framework.tracking.samples import step
from support.tiny import write_job

MODELS = {name: {"perplexity": 2.0, "nll": 0.7, "parameters": 31, "tokens": 7} for name in ("heal", "parent", "slim")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job file of a run that is done, by its files; no stage has a model."""
    root = tmp_path_factory.mktemp("made")
    job = write_job(root)
    prepared = prepare(read_job(job))
    folder = RunFolder.of(prepared.job)
    claim(folder, versions={"espalier": "0.1.0"})
    prepared.write_down(folder)
    folder.write_json("attempts", 5)
    for stage in prepared.plan.stages:
        metrics: dict[str, Any] = {"model": "heal", "models": MODELS} if stage.name == "score" else {}
        folder.write_result(StageResult(stage.name, stage.config.kind, stage.key, "done", None, metrics))
    times, events, steps = TimeLog(folder.path / TIME), EventLog(folder.path / EVENTS), StepLog(folder.path / STEPS)
    times.record("waiting", time=1000.0)
    times.record("stopped", time=1009.0)
    events.add("finished", "heal")
    for number in range(1, 7):
        steps.append(step(number))
    return job


@pytest.fixture
def job(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made.parent / "runs", tmp_path / "runs")
    copy = tmp_path / "job.yaml"
    copy.write_text(made.read_text().replace(f"{made.parent}/runs", f"{tmp_path}/runs"))
    return copy


def folder_of(job: Path) -> Path:
    return job.parent / "runs" / "tiny"


def commands(job: Path) -> dict[str, list[str]]:
    run = str(folder_of(job))
    return {
        "plan": ["plan", str(job)],
        "run": ["run", str(job), "--in-process"],
        "report": ["report", run],
        "compare": ["compare", run, run],
        "list": ["checkpoint", "list", run],
        "export": ["export", run, "heal", str(job.parent / "out")],
    }


def outcomes(job: Path, *names: str) -> dict[str, Any]:
    known = commands(job)
    return {name: CliRunner().invoke(app, known[name]) for name in names or known}


def is_refusal(outcome: Any, file: str) -> bool:
    """One sentence that names the file."""
    if not isinstance(outcome.exception, RefusedInput):
        return False
    text = str(outcome.exception)
    return len(outcome.exception.faults) == 1 and file in text and "\n" not in text and len(text) < 800


NONSENSE = {
    "nothing": b"",
    "torn": b"{",
    "no text": b"\xff\xfe\x00",
    "a list": b"[]",
    "an object": b"{}",
    "null": b"null",
    "a number": b"17",
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "long number": b"9" * 10_000,
    "list of lists": b"[[]]",
    "list of objects": b"[{}]",
}
NEEDED = {
    "plan.json": {"report", "compare", "run", "plan"},
    "run.json": {"report", "run", "plan"},
    "job.json": {"report"},
    "attempts": {"run"},
    "stages/score/result.json": {"report", "plan", "run"},
}
"""Who cannot do without a file. The others go on without it, or refuse it too."""
FITTING = {("job.json", "an object"), ("attempts", "a number"), ("plan.json", "a list")}


@pytest.mark.parametrize("content", NONSENSE)
@pytest.mark.parametrize("file", NEEDED)
def test_a_file_with_invalid_content_is_refused_by_name(job: Path, file: str, content: str) -> None:
    if (file, content) in FITTING:
        pytest.skip("a value that the file may have")
    (folder_of(job) / file).write_bytes(NONSENSE[content])
    for name, outcome in outcomes(job, *sorted(NEEDED[file])).items():
        assert is_refusal(outcome, file.split("/")[-1]), (name, outcome.output, outcome.exception)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def somebodys(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("plant", [pipe, device, a_folder, circle, somebodys, huge])
@pytest.mark.parametrize("file", ["plan.json", "run.json", "stages/score/result.json"])
def test_a_pipe_device_folder_or_link_is_refused_at_once(job: Path, file: str, plant: Callable[[Path], None]) -> None:
    path = folder_of(job) / file
    path.unlink()
    plant(path)
    (outcome,) = outcomes(job, "report").values()
    assert is_refusal(outcome, path.name), (outcome.output, outcome.exception)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_unknown_keys_are_ignored(job: Path) -> None:
    folder = folder_of(job)
    plan = [entry | {"colour": "red"} for entry in json.loads((folder / "plan.json").read_text())]
    (folder / "plan.json").write_text(json.dumps(plan))
    for file in ("run.json", "stages/score/result.json"):
        change(folder / file, colour="red")
    for file in (STEPS, EVENTS, TIME):
        lines = [json.loads(line) | {"colour": "red"} for line in (folder / file).read_text().splitlines()]
        (folder / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, outcome in outcomes(job, "plan", "run", "report", "compare", "list").items():
        assert outcome.exit_code == ExitCode.DONE, (name, outcome.output, outcome.exception)


@pytest.mark.parametrize("file", ["run.json", "stages/score/result.json"])
@pytest.mark.parametrize("more", [{}, {"key": 3, "run_id": []}])
def test_a_newer_schema_version_is_refused(job: Path, file: str, more: dict[str, Any]) -> None:
    change(folder_of(job) / file, schema_version=2, **more)
    for outcome in outcomes(job, "report", "plan", "run").values():
        assert is_refusal(outcome, file.split("/")[-1]) and "newer espalier" in str(outcome.exception)


@pytest.mark.parametrize(
    "inputs",
    [
        {"parent": {"student": "heal"}, "heal": {"student": "parent"}},
        {"parent": {"student": "parent"}},
        {"parent": {"student": "../../x"}},
        {"slim": {"student": "nobody"}},
    ],
)
@pytest.mark.timeout(30)
def test_a_plan_with_a_cycle_is_refused(job: Path, inputs: dict[str, Any]) -> None:
    path = folder_of(job) / "plan.json"
    plan = json.loads(path.read_text())
    for entry in plan:
        entry["inputs"] = inputs.get(entry["name"], entry["inputs"])
    path.write_text(json.dumps(plan))
    for outcome in outcomes(job, "report", "compare").values():
        assert is_refusal(outcome, "plan.json"), outcome.exception


RESULT = asdict(StageResult("heal", "distill", "k", "done", "stages/heal/step-00000006"))


@pytest.mark.parametrize(
    "values",
    [
        {"checkpoint": "/etc"},
        {"checkpoint": "stages/../../x/step-00000006"},
        {"checkpoint": "../other/stages/heal/step-00000006"},
        {"stage": "../x"},
        {"stage": "slim"},
        {"status": "fine"},
        {"metrics": {"tokenizer": "/etc"}},
        {"metrics": {"tokenizer": ".."}},
        {"metrics": {"models": []}},
        {"metrics": {"model": "../x"}},
        {"cost": {"tokens": -1}},
        {"cost": {"seconds": "long"}},
    ],
)
def test_names_and_numbers_of_a_result_are_validated(job: Path, values: dict[str, Any]) -> None:
    (folder_of(job) / "stages/heal/result.json").write_text(json.dumps(RESULT | values))
    for name, outcome in outcomes(job, "report", "export", "plan").items():
        assert is_refusal(outcome, "result.json"), (name, outcome.exception)
    assert not (job.parent / "out").exists()


def test_a_folder_with_a_plan_of_something_else_gets_no_report(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[]")
    (tmp_path / "report.html").write_text("mine")
    outcome = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert is_refusal(outcome, str(tmp_path)) and (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["../../x", "/etc", "", "A", "a/b", "x" * 65])
def test_a_planned_name_is_no_path(job: Path, name: str) -> None:
    path = folder_of(job) / "plan.json"
    path.write_text(json.dumps([*json.loads(path.read_text()), {"name": name, "kind": "load"}]))
    assert is_refusal(outcomes(job, "report")["report"], "plan.json")


@pytest.mark.parametrize(
    "line",
    [
        {"stage": "heal"},
        asdict(step(7)) | {"num_steps": 0},
        asdict(step(7)) | {"stage": "../x"},
        asdict(step(7)) | {"tokens": -1},
        asdict(step(7)) | {"loss": "high"},
        asdict(step(7)) | {"terms": 3},
        asdict(step(7)) | {"time": 1e300},
    ],
)
def test_a_record_line_with_another_schema_is_refused_with_its_number(job: Path, line: dict[str, Any]) -> None:
    with (folder_of(job) / STEPS).open("a") as file:
        file.write(json.dumps(line) + "\n")
    for outcome in outcomes(job, "report", "compare").values():
        assert is_refusal(outcome, "steps.jsonl") and "line 7" in str(outcome.exception)
    ran = outcomes(job, "run")["run"]
    assert ran.exit_code == ExitCode.DONE and "the report could not be written" in ran.output


def test_lines_that_a_crash_cut_off_are_ignored(job: Path) -> None:
    with (folder_of(job) / STEPS).open("ab") as file:
        file.write(b'{"stage": "he\n' + b"[" * 100_000 + b"\n\xff\n\n17\n")
    assert outcomes(job, "report")["report"].exit_code == ExitCode.DONE
    end_killed_driver(folder_of(job))


@pytest.mark.parametrize(
    "metrics", [{"models": {"heal": {}}}, {"models": {"heal": {"perplexity": "low"}}, "watched": "x"}]
)
def test_a_report_that_cannot_be_drawn_does_not_change_the_exit_code(job: Path, metrics: dict[str, Any]) -> None:
    change(folder_of(job) / "stages/score/result.json", metrics=metrics | {"model": "heal"})
    assert is_refusal(outcomes(job, "report")["report"], "runs/tiny")
    assert outcomes(job, "run")["run"].exit_code == ExitCode.DONE


def test_a_run_that_is_done_has_nothing_to_do_and_loses_no_goodput(job: Path) -> None:
    before = (folder_of(job) / TIME).read_bytes()
    ran = outcomes(job, "run")["run"]
    assert ran.exit_code == ExitCode.DONE and "nothing to do" in ran.output
    assert (folder_of(job) / TIME).read_bytes() == before


def test_a_stop_that_was_asked_for_is_no_failure(tmp_path: Path) -> None:
    from espalier.stages.failures import StageFailed
    from espalier.stages.plan import build_plan
    from espalier.tracking.events import read_events
    from espalier_cluster.event_recorder import EventRecorder

    config = read_job(write_job(tmp_path)).stages[0]
    (stage,) = build_plan([config], context={}).stages
    folder = RunFolder(tmp_path / "run")
    driver = DriverFile(folder, DriverRecord.of_this_process())
    tell = EventRecorder(folder, EventLog(folder.path / EVENTS), TimeLog(folder.path / TIME), driver)
    for cause in ("stopped", "preempted", "error"):
        tell("stage_failed", stage, StageFailed(cause, "after step 3"))
    assert [event.kind for event in read_events(folder.path / EVENTS)] == ["stopped", "stopped", "failed"]
