"""`stop` in the middle of a surgery, a save, an evaluation, and between two stages, each then resumed.

The processes that decide are held by SIGSTOP at the moment until the wish to stop is there, so it falls into it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submissions
from espalier.tracking.events import EVENTS, read_events
from faults.outcome import differences, outcome
from hosts.jobs import run_of, submit, undisturbed
from hosts.ray_hosts import RayHosts, processes_of, wait_for
from hosts.rows import Table

_PATIENCE_SECONDS = 400.0
_HANG = "retry.hang_seconds=100"  # held processes are silent, which is no hang here
_OF_A_RUN = ("espalier run", "ray::RayTrainWorker", "ray::OrderQueue", "ray::_train", "ray::TrainController")
_OF_THE_CLUSTER = ("_AutoscalingCoordinatorActor",)  # the first run of Ray Train starts it for all that follow


@dataclass(frozen=True)
class Moment:
    """When to stop.

    Attributes:
        has_come: asked again and again; and once more when the processes are held, as it may be over by then.
        driver: hold the driver, and not the workers.
        goes_on: where the run may go on then; a stage that is shorter than the grace comes to its end.
    """

    what: str
    has_come: Callable[[Path], bool]
    goes_on: tuple[str, ...]
    driver: bool = False


def _is_under_way(run: Path, stage: str) -> bool:
    started = [one for one in read_events(run / EVENTS) if one.stage == stage and one.kind in ("started", "activity")]
    return bool(started) and not (run / "stages" / stage / "result.json").exists()


def _saves(run: Path) -> bool:
    folders = [one for one in (run / "stages" / "heal").glob("step-*") if one.name != "step-00000000"]
    return any(not (one / "manifest.json").exists() for one in folders)


def _is_between(run: Path) -> bool:
    is_done = (run / "stages" / "heal" / "result.json").exists()
    return is_done and not any(one.stage == "score" for one in read_events(run / EVENTS))


MOMENTS = (
    Moment("a surgery", lambda run: _is_under_way(run, "slim"), ("stage slim (2 of 5)", "stage heal (3 of 5)")),
    Moment("a save", _saves, ("of stage heal (3 of 5)",)),
    Moment("the boundary of two stages", _is_between, ("beginning of stage score (4 of 5)",), driver=True),
    Moment("an evaluation", lambda run: _is_under_way(run, "score"), ("stage score (4 of 5)", "stage out (5 of 5)")),
)


def play(hosts: RayHosts, table: Table) -> None:
    """One run, stopped at each moment in turn and finished at last."""
    expected = undisturbed(hosts, table)
    run = run_of(hosts, "stopped")
    command = submit(hosts, "stopped", _HANG)
    for moment in MOMENTS:
        with table.row("stops", f"`stop` during {moment.what}") as seen:
            follower = hosts.start_espalier(*command, "--follow", log="stops.log")
            _stop_at(hosts, run, moment, follower, seen)
        command = ("resume", str(run), "--address", hosts.address)
    with table.row("stops", "resumed to its end, beside the undisturbed run") as seen:
        told = hosts.espalier(*command, "--follow", seconds=900)
        assert told.returncode == 0, told.stdout[-2000:]
        different = differences(expected, outcome(run))
        assert not different, "; ".join(different[:3])
        seen.append(f"{len(expected)} values equal")


def _stop_at(hosts: RayHosts, run: Path, moment: Moment, follower: subprocess.Popen[bytes], seen: list[str]) -> None:
    held = _hold_at(hosts, run, moment, follower)
    try:
        began = time.monotonic()
        stop = hosts.start_espalier("stop", str(run), "--address", hosts.address, log=f"stop-{moment.what[-6:]}.log")
        wait_for((run / "stop.json").exists, seconds=60, pause=0.02)
    finally:
        _send(held, psutil.Process.resume)
    code = stop.wait(120)
    told = hosts.client.output(f"stop-{moment.what[-6:]}.log").strip()
    assert code == 0 and "nothing of it is left" in told, told
    assert any(place in told for place in moment.goes_on), told
    assert follower.wait(60) == 75, f"--follow ended with {follower.returncode}"
    submissions = Submissions(RunFolder(run))
    ended = submissions.ended(newest) if (newest := submissions.newest()) else None
    assert ended is not None and ended.exit_code == 75, ended
    wait_for(lambda: hosts.jobs()[newest.id]["status"] == "FAILED", seconds=20)
    assert hosts.jobs()[newest.id]["driver_exit_code"] == 75, hosts.jobs()[newest.id]
    left = _leftovers(hosts)
    assert not left, f"left: {left}"
    _verify(hosts, run)
    seen.append(f"{told.partition(';')[2].partition(';')[0].strip()}; {time.monotonic() - began:.0f} s; 0 left")


def _hold_at(hosts: RayHosts, run: Path, moment: Moment, follower: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Hold the driver or the workers at the moment; a moment that was over by then is waited for again."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    who: list[psutil.Process] = []
    while time.monotonic() < deadline:
        assert follower.poll() is None, hosts.client.output("stops.log")[-2000:]
        if not all(one.is_running() for one in who) or len(who) < 1 + (not moment.driver):
            who = _deciding(hosts, driver=moment.driver)
            time.sleep(0.1 if not who else 0)
        elif moment.has_come(run):
            _send(who, psutil.Process.suspend)
            if moment.has_come(run):
                return who
            _send(who, psutil.Process.resume)
        time.sleep(0.001)
    raise TimeoutError(f"{moment.what} did not come")


def _deciding(hosts: RayHosts, *, driver: bool) -> list[psutil.Process]:
    assert hosts.head is not None
    if driver:
        found = processes_of(hosts.head, "espalier run")
        return [one for one in found if not one.cmdline()[0].endswith("sh")][-1:]
    return [one for host in hosts.workers for one in processes_of(host, "ray::RayTrainWorker")]


def _send(processes: Sequence[psutil.Process], do: Callable[[psutil.Process], Any]) -> None:
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            do(one)


def _leftovers(hosts: RayHosts) -> list[str]:
    """Processes of a run on any node, and actors and placement groups that the cluster has, after a moment."""

    def found() -> list[str]:
        nodes = [*hosts.workers, *filter(None, [hosts.head])]
        left = [f"{words} on {node.name}" for node in nodes for words in _OF_A_RUN if processes_of(node, words)]
        actors = hosts.ask("/api/v0/actors?limit=1000")["data"]["result"]["result"]
        names = [one["class_name"] for one in actors if one["state"] != "DEAD"]
        left += [f"actor {name}" for name in names if name not in _OF_THE_CLUSTER]
        places = hosts.ask("/api/v0/placement_groups?limit=1000")["data"]["result"]["result"]
        return left + [f"placement group {one['placement_group_id']}" for one in places if one["state"] != "REMOVED"]

    with suppress(TimeoutError):
        wait_for(lambda: not found(), seconds=10)
    return found()


def _verify(hosts: RayHosts, run: Path) -> None:
    """Every checkpoint that is there is whole."""
    if any(run.glob("stages/*/step-*/manifest.json")):
        told = hosts.espalier("checkpoint", "verify", str(run))
        assert told.returncode == 0, told.stdout[-1000:]
