"""A run in W&B beside a server that fails in every way: each step is there once afterwards, and nothing is raised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb

from espalier.stages.result import Cost, StageResult
from espalier.stages.run_folder import RunFolder
from espalier.tracking import wandb_session
from espalier.tracking.epochs import EPOCHS, EpochLog
from espalier.tracking.events import EVENTS, EventLog, read_events
from espalier.tracking.follow import Follower, News
from espalier.tracking.mirror import Access, Mirror
from espalier.tracking.record import STEPS, StepLog
from espalier.tracking.wandb_settings import WANDB
from framework.tracking.epochs import epoch
from framework.tracking.samples import job, step
from support.wandb_server import HISTORY, KEY, SUMMARY, ServedRun, Trouble, WandbServer, wait_until, wandb_server

FAULTS = [Trouble(401, at="file_stream"), Trouble(500), Trouble(429), Trouble(0), Trouble(200, seconds=30.0)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A healthy server that W&B's library takes for its own; the library's service starts anew."""
    wandb.teardown()
    with wandb_server() as served:
        monkeypatch.setenv("WANDB_BASE_URL", served.url)
        monkeypatch.setattr(wandb_session, "_CONNECT_SECONDS", 3.0)
        yield served
        wandb.teardown()


def session(folder: Path, mode: str = "online", *, stops: list[str] | None = None, key: str = KEY) -> Mirror:
    """A mirror as a driver opens it; `stops` notes each wish to stop."""
    asked, events = job(mode=mode), EventLog(folder / EVENTS)
    access = Access({"WANDB_API_KEY": key}, stop=lambda: None if stops is None else stops.append("stop"))
    return Mirror.open(folder, asked, events, kind=WANDB, settings=asked.tracking.wandb, access=access)


def write_steps(folder: Path, numbers: range, *, attempt: int = 1) -> None:
    log = StepLog(folder / STEPS)
    for number in numbers:
        log.append(step(number, attempt=attempt))


def show(folder: Path, mode: str = "online") -> Mirror:
    """One start of a driver: whatever is recorded is sent."""
    mirror = session(folder, mode)
    mirror.receive(Follower(folder).poll())
    mirror.close()
    return mirror


def served(server: WandbServer, folder: Path) -> ServedRun:
    return server.runs[RunFolder(folder).ids()["wandb_id"]]


def steps_of(server: WandbServer, folder: Path) -> list[int]:
    return [row["trainer/step"] for row in served(server, folder).history]


def said(folder: Path) -> list[str]:
    return [event.message for event in read_events(folder / EVENTS) if event.kind == "mirror"]


def sync(server: WandbServer, folder: Path) -> None:
    """`wandb sync` of the one offline folder, by a process of its own."""
    (offline,) = folder.glob("wandb/offline-run-*")
    command = [str(Path(sys.executable).with_name("wandb")), "sync", str(offline)]
    environment = {"PATH": os.environ["PATH"], "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "HOME": str(folder)}
    ran = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "Finished syncing" in ran.stderr, ran.stderr


def test_each_row_is_a_step_with_its_place_in_the_plan_and_epochs_are_in_the_row_of_their_last_step(server, folder):
    shape = {"layers": 8, "parameters": 1000}
    plan = [{"name": "small", "key": "a"}, {"name": "heal", "key": "b", "inputs": {"student": "small"}, "shape": shape}]
    RunFolder(folder).write_json("plan.json", plan)
    write_steps(folder, range(1, 5))
    EpochLog(folder / EPOCHS).append(epoch(1, plain=True))
    show(folder)
    run = served(server, folder)
    assert [(row["_step"], row["trainer/step"]) for row in run.history] == [(number, number) for number in range(1, 5)]
    assert [row.get("stage/heal/epoch") for row in run.history] == [None, None, 1, None]
    marks = {name: run.history[0][f"progress/{name}"] for name in ("stage", "layers", "parameters")}
    assert marks == {"stage": 2, "layers": 8, "parameters": 1000}
    assert (run.name, run.exit_code, said(folder)) == ("slim", 0, [])


def test_results_are_in_the_summary_with_their_tables(server, folder):
    models = {"heal": {"perplexity": 24.125, "parameters": 7}}
    result = StageResult("score", "evaluate", "k", "done", None, {"models": models}, Cost(tokens=8192))
    RunFolder(folder).write_result(result)
    write_steps(folder, range(1, 3))
    EventLog(folder / EVENTS).add("finished", "score")
    show(folder)
    run = served(server, folder)
    assert run.summary["stage/score/tokens"] == 8192
    assert run.summary["stages"]["nrows"] == 1 and run.summary["stage/score/models"]["_type"] == "table-file"
    assert steps_of(server, folder) == [1, 2], "a table is no step"


def test_a_failure_and_a_missed_gate_are_told_once_and_those_of_earlier_starts_are_not(server, folder):
    EventLog(folder / EVENTS).add("failed", "heal", "told by an earlier start")
    mirror, follower, events = session(folder), Follower(folder), EventLog(folder / EVENTS)
    mirror.receive(follower.poll())
    events.add("failed", "heal", "no worker got on for 12 s (rank 0 in step)")
    events.add("gate", "score", "perplexity_ratio 1.5 is above 1.25")
    events.add("finished", "heal")
    mirror.receive(follower.poll())
    mirror.close()
    told = [(one["title"], one["severity"], one["text"][:9]) for one in served(server, folder).alerts]
    assert told == [("slim: heal failed", "ERROR", "no worker"), ("slim: score missed its gate", "WARN", "perplexit")]


def test_after_a_kill_the_server_s_last_row_decides_and_not_its_summary(server, folder):
    """The summary on the server is ahead of its rows when a run is killed."""
    write_steps(folder, range(1, 8))
    EpochLog(folder / EPOCHS).append(epoch(1, plain=True))
    EpochLog(folder / EPOCHS).append(epoch(2, plain=True))
    show(folder)
    rows = served(server, folder).files[HISTORY]
    for line in range(4, 7):  # steps 5 to 7 and the end of epoch 2, at step 6, did not get there
        del rows[line]
    summary = served(server, folder).summary
    assert summary["stage/heal/epoch"] == 2 and summary["trainer/step"] == 7
    served(server, folder).files[SUMMARY] = {0: json.dumps(summary | {"_step": 4})}  # W&B's own counter is never ahead
    write_steps(folder, range(8, 11))
    show(folder)
    assert steps_of(server, folder) == list(range(1, 11))
    ends = {row["trainer/step"]: row.get("stage/heal/epoch") for row in served(server, folder).history}
    assert {place: end for place, end in ends.items() if end} == {3: 1, 6: 2}


def test_the_end_of_an_epoch_that_comes_after_a_stop_is_sent_by_the_next_start(server, folder):
    write_steps(folder, range(1, 4))
    show(folder)
    EpochLog(folder / EPOCHS).append(epoch(1, plain=True))
    write_steps(folder, range(4, 6))
    show(folder)
    assert steps_of(server, folder) == [1, 2, 3, 4, 5]
    assert [row.get("stage/heal/epoch") for row in served(server, folder).history] == [None, None, None, 1, None]
    show(folder)
    assert len(served(server, folder).history) == 5


def test_the_end_of_an_epoch_whose_later_row_did_not_arrive_is_sent_again(server, folder):
    write_steps(folder, range(1, 4))
    show(folder)
    EpochLog(folder / EPOCHS).append(epoch(1, plain=True))
    write_steps(folder, range(4, 6))
    show(folder)
    for line in (3, 4):  # steps 4, with the end of epoch 1, and 5
        del served(server, folder).files[HISTORY][line]
    summary = served(server, folder).summary | {"_step": 3}
    served(server, folder).files[SUMMARY] = {0: json.dumps(summary)}
    show(folder)
    assert [row.get("stage/heal/epoch") for row in served(server, folder).history] == [None, None, None, 1, None]


def test_what_was_kept_offline_between_is_sent_by_the_next_start_that_is_online(server, folder):
    write_steps(folder, range(1, 6))
    show(folder)
    wandb.teardown()
    write_steps(folder, range(6, 9))
    show(folder, "offline")
    write_steps(folder, range(9, 12), attempt=2)
    show(folder)
    assert steps_of(server, folder) == list(range(1, 12)) and not list(folder.glob("wandb/offline-run-*"))


@pytest.mark.slow
def test_a_run_killed_offline_and_resumed_is_synced_once(server, folder):
    write_steps(folder, range(1, 6))
    killed = follow_in_a_process(folder, "offline")
    assert wait_until(lambda: any(path.stat().st_size > 1000 for path in logs(folder)), 60.0)
    killed.kill()
    killed.wait()
    StepLog(folder / STEPS).rewind("heal", 3)
    write_steps(folder, range(4, 9), attempt=2)
    show(folder, "offline")
    sync(server, folder)
    tried = [(row["trainer/step"], row["progress/attempt"]) for row in served(server, folder).history]
    assert tried == [(1, 1), (2, 1), (3, 1), *((number, 2) for number in range(4, 9))]


def logs(folder: Path) -> list[Path]:
    return list(folder.glob("wandb/offline-run-*/*.wandb"))


def follow_in_a_process(folder: Path, mode: str) -> subprocess.Popen[bytes]:
    """A driver that follows the run's record until it is killed."""
    program = f"""
import time
from pathlib import Path
from framework.tracking.test_wandb_server import Follower, session
folder = Path({str(folder)!r})
mirror, follower = session(folder, {mode!r}), Follower(folder)
while True:
    mirror.receive(follower.poll())
    time.sleep(0.2)
"""
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")])
    return subprocess.Popen([sys.executable, "-c", program], env=environment)


@pytest.mark.slow
def test_a_run_killed_online_after_a_part_was_sent_is_sent_once(server, folder):
    """The library sends every 15 s; what came since the last time is lost with the process."""
    write_steps(folder, range(1, 6))
    killed = follow_in_a_process(folder, "online")
    try:
        for number in range(6, 2000):
            write_steps(folder, range(number, number + 1))
            time.sleep(0.1)
            if any(run.history for run in server.runs.values()):
                break
    finally:
        killed.kill()
        killed.wait()
    sent = len(served(server, folder).history)
    assert 0 < sent < number
    show(folder)
    assert steps_of(server, folder) == list(range(1, number + 1))


@pytest.mark.parametrize("trouble", FAULTS[:2], ids=["401", "500"])
def test_what_a_failing_server_has_not_taken_is_told_and_sent_by_the_next_start(server, folder, trouble):
    check_fault(server, folder, trouble)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", FAULTS[2:], ids=["429", "cut", "late"])
def test_other_faults_are_borne_as_well(server, folder, trouble):
    check_fault(server, folder, trouble)


def check_fault(server: WandbServer, folder: Path, trouble: Trouble) -> None:
    follower, mirror = Follower(folder), session(folder)
    write_steps(folder, range(1, 6))
    mirror.receive(follower.poll())
    server.trouble = trouble
    write_steps(folder, range(6, 11))
    began = time.monotonic()
    mirror.receive(follower.poll())
    assert time.monotonic() - began < 1.0, "sending does not wait for the server"
    mirror.close()
    assert said(folder) == ["W&B has not taken all of this run"]
    assert "`espalier sync " in mirror.advice()
    server.trouble = None
    wandb.teardown()
    again = show(folder)
    assert steps_of(server, folder) == list(range(1, 11)) and again.advice() == ""


@pytest.mark.parametrize("status", [409, *(pytest.param(one, marks=pytest.mark.slow) for one in (401, 500))])
def test_a_server_that_refuses_the_run_leaves_it_to_an_offline_folder(server, folder, status):
    write_steps(folder, range(1, 4))
    show(folder)
    wandb.teardown()
    write_steps(folder, range(4, 6))
    server.trouble = Trouble(status, at="graphql")
    mirror = show(folder)
    assert "W&B did not take this run" in said(folder)[0] and "`espalier sync " in mirror.advice()
    server.trouble = None
    wandb.teardown()
    show(folder)
    assert steps_of(server, folder) == [1, 2, 3, 4, 5]


def test_a_dead_key_is_told_with_the_server_s_words(server, folder):
    write_steps(folder, range(1, 4))
    mirror = session(folder, key="9" * 40)
    mirror.receive(Follower(folder).poll())
    mirror.close()
    assert "401" in said(folder)[0] and "9" * 40 not in said(folder)[0]
    sync(server, folder)
    assert steps_of(server, folder) == [1, 2, 3], "the server had nothing of it"


@pytest.mark.slow
def test_the_stop_button_stops_the_run_once_and_not_the_start_after_it(server, folder):
    write_steps(folder, range(1, 4))
    show(folder)
    served(server, folder).asked_to_stop = True
    stops: list[str] = []
    first = session(folder, stops=stops)
    first.receive(News(steps=(step(4),)))
    assert wait_until(lambda: stops == ["stop"], 25.0)
    first.close()
    second = session(folder, stops=stops)
    second.receive(News(steps=(step(5),)))
    assert wait_until(lambda: any("earlier wish to stop" in one for one in said(folder)), 25.0)
    second.close()
    assert stops == ["stop"]
