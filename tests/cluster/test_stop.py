"""Stopping a run from elsewhere: the wish, the driver that hears it, and what is said of what is left."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs_stand_in import Clock, StandIn, client, job

from espalier.checkpoint.lock import RunLock
from espalier.jobs.job import Job
from espalier.stages.controller import ExitCode
from espalier.stages.run_folder import RunFolder
from espalier.stages.stop_wish import FILE, StopWish, read_wish, write_wish
from espalier_cluster.jobs_server import JobState
from espalier_cluster.stop import Stopper, stop
from espalier_cluster.stop_watch import stop_on_wish
from espalier_cluster.stopping import stop_on_signal
from espalier_cluster.submit import submit

__all__ = ["job"]


def stopper(folder: RunFolder, server: StandIn | None, on_sleep: Callable[[float], None] = lambda now: None) -> Stopper:
    clock = Clock(on_sleep)
    return Stopper(folder, server, sleep=clock.sleep, clock=clock)


def driver_that_hears(folder: RunFolder, server: StandIn, submission: str) -> Callable[[float], None]:
    """Has saved two seconds after a wish for it came, and leaves two seconds later."""
    heard: list[float] = []

    def look(now: float) -> None:
        wish = read_wish(folder)
        if wish is not None and wish.submission == submission:
            heard.append(now)
        if heard and now > heard[0] + 4:
            server.jobs[submission] = JobState("FAILED", exit_code=75, ray_job="01000000")
        elif heard and now > heard[0] + 2:
            server.end(submission, exit_code=75)
            server.jobs[submission] = JobState("RUNNING", ray_job="01000000")

    return look


def test_a_run_saves_and_stops_and_its_job_is_not_ended_before(job: Job) -> None:
    server, folder = StandIn(), RunFolder.of(job)
    submission = submit(job, client(server)).submission.id
    code, told = stop(stopper(folder, server, driver_that_hears(folder, server, submission)), now=False)
    assert code is ExitCode.DONE and "slim has stopped" in told and "nothing of it is left" in told
    assert server.stopped == [] and not (folder.path / FILE).exists()
    assert stop(stopper(folder, server), now=False)[1] == "slim is not running, and nothing of it is left"


def test_a_driver_that_does_not_hear_is_ended_by_force_after_its_grace(job: Job) -> None:
    server, folder = StandIn(), RunFolder.of(job)
    submission = submit(job, client(server)).submission.id
    slept: list[float] = []
    code, told = stop(stopper(folder, server, slept.append), now=False)
    assert code is ExitCode.DONE and "ended by force" in told and server.stopped == [submission]
    assert max(slept) > 100


def test_what_is_left_on_the_cluster_is_named(job: Job) -> None:
    server, folder = StandIn(left=["actor OrderQueue on node b"] * 100), RunFolder.of(job)
    server.end(submit(job, client(server)).submission.id)
    code, told = stop(stopper(folder, server), now=False)
    assert code is ExitCode.ERROR and "actor OrderQueue on node b" in told


def test_what_goes_in_a_moment_is_not_left(job: Job) -> None:
    server, folder = StandIn(left=["actor Worker on node b"]), RunFolder.of(job)
    server.end(submit(job, client(server)).submission.id)
    assert stop(stopper(folder, server), now=False)[0] is ExitCode.DONE


def test_a_job_that_waits_on_the_cluster_is_ended_at_once(job: Job) -> None:
    def wait(server: StandIn, job_id: str) -> None:
        server.jobs[job_id] = JobState("PENDING")

    server, folder = StandIn(on_start=wait), RunFolder.of(job)
    submission = submit(job, client(server)).submission.id
    slept: list[float] = []
    assert stop(stopper(folder, server, slept.append), now=False)[0] is ExitCode.DONE
    assert server.stopped == [submission] and not slept


def test_a_cluster_that_is_away_for_a_moment_is_waited_for(job: Job) -> None:
    server, folder = StandIn(), RunFolder.of(job)
    submission = submit(job, client(server)).submission.id
    server.away = 5
    code, told = stop(stopper(folder, server, driver_that_hears(folder, server, submission)), now=False)
    assert code is ExitCode.DONE and "has stopped" in told


def test_a_run_of_a_person_stops_without_a_cluster(job: Job) -> None:
    folder = RunFolder.of(job)
    folder.make(job)
    lock = RunLock(folder.path / "lock", job=job.name)
    lock.__enter__()

    def hear(now: float) -> None:
        if now == 1.0:
            (folder.path / FILE).unlink()  # a driver that is just starting takes it for an old one
        if now > 2.0 and read_wish(folder) == StopWish(asked=read_wish(folder).asked):  # type: ignore[union-attr]
            lock.__exit__(None, None, None)

    code, told = stop(stopper(folder, None, hear), now=False)
    assert code is ExitCode.DONE and "has stopped" in told and "the cluster was not asked" in told


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("now", "num_signals"), [(False, 1), (True, 2)])
def test_a_driver_gets_the_signals_that_a_person_would_send(tmp_path: Path, now: bool, num_signals: int) -> None:
    folder, sent = RunFolder(tmp_path), []
    with stop_on_wish(folder, "espalier-slim-1-00000000", signal_self=lambda: sent.append(time.monotonic())):
        write_wish(folder, StopWish(submission="espalier-slim-2-00000000", now=now))
        time.sleep(1.3)
        assert not sent, "the wish is for another attempt"
        write_wish(folder, StopWish(submission="espalier-slim-1-00000000", now=now))
        wait_for(lambda: len(sent) == num_signals)
        time.sleep(1.2)
    assert len(sent) == num_signals


def test_a_wish_for_an_earlier_driver_does_not_stop_the_next_one(tmp_path: Path) -> None:
    folder, sent = RunFolder(tmp_path), []
    for old, own in (
        (None, None),
        ("espalier-slim-1-00000000", "espalier-slim-2-00000000"),
        (None, "espalier-s-1-0" + "0" * 7),
    ):
        write_wish(folder, StopWish(submission=old))
        with stop_on_wish(folder, own, signal_self=lambda: sent.append(1)):
            time.sleep(0.1)
        assert read_wish(folder) is None and not sent


def test_a_wish_that_came_while_the_driver_started_is_heard(tmp_path: Path) -> None:
    folder, sent = RunFolder(tmp_path), []
    write_wish(folder, StopWish(submission="espalier-slim-1-00000000"))
    with stop_on_wish(folder, "espalier-slim-1-00000000", signal_self=lambda: sent.append(1)):
        wait_for(lambda: bool(sent))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"submission": "../x"}'])
def test_something_else_in_its_place_stops_nothing(tmp_path: Path, content: bytes) -> None:
    folder, sent = RunFolder(tmp_path), []
    with stop_on_wish(folder, None, signal_self=lambda: sent.append(1)):
        (tmp_path / FILE).write_bytes(content)
        time.sleep(1.3)
    assert not sent


def test_a_wish_sets_the_event_that_a_signal_sets(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signal(lambda text: None) as stopping, stop_on_wish(folder, None):
        threading.Timer(0.1, lambda: write_wish(folder, StopWish())).start()
        assert stopping.wait(10)
    assert signal.getsignal(signal.SIGTERM) == before
