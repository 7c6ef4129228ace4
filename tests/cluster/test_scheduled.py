"""A run that a scheduler starts again: it waits for the driver before, and a person's stop is no failure of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from jobs_stand_in import Clock, StandIn, client, job

from espalier.checkpoint.lock import RunLock
from espalier.jobs.job import Job
from espalier.stages.controller import ExitCode
from espalier.stages.run_folder import RunFolder
from espalier.stages.stop_wish import FILE, StopWish, read_wish, write_wish
from espalier.stages.submissions import Submissions
from espalier_cluster.driver_log import part_path, parts
from espalier_cluster.scheduled import Waiting, await_earlier_driver, drive_scheduled
from espalier_cluster.stop import Stopper, stop
from espalier_cluster.stop_watch import stop_on_wish
from espalier_cluster.stopping import stop_on_signal
from espalier_cluster.submit import submit

__all__ = ["job"]


@pytest.fixture
def folder(job: Job) -> RunFolder:
    made = RunFolder.of(job)
    made.make(job)
    return made


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        time.sleep(0.02)


def test_a_living_driver_is_waited_for_and_named_once(folder: RunFolder) -> None:
    lock = RunLock(folder.path / "lock", job="slim")
    lock.__enter__()
    clock = Clock(lambda now: lock.__exit__(None, None, None) if now == 5 else None)
    told: list[str] = []
    await_earlier_driver(folder, Waiting(clock.sleep, clock), tell=told.append)
    assert clock.now == 5 and told == [
        f"waiting for the driver before this one, process {os.getpid()} on host {told[0].split()[-1]}"
    ]


def test_one_that_holds_on_is_waited_for_longer_than_a_dead_one_can_hold(folder: RunFolder) -> None:
    with RunLock(folder.path / "lock", job="slim"):
        clock = Clock()
        await_earlier_driver(folder, Waiting(clock.sleep, clock), tell=lambda text: None)
    assert 60 < clock.now < 180


def test_what_it_prints_is_kept_and_its_exit_code_is_the_actions(job: Job) -> None:
    def action() -> None:
        print("a line of the run", flush=True)
        raise SystemExit(ExitCode.GATE_FAILED)

    assert drive_scheduled(job, action) == ExitCode.GATE_FAILED
    folder = RunFolder.of(job)
    (number,) = parts(folder.files)
    assert "a line of the run" in (folder.path / part_path(number)).read_text()


def test_a_persons_wish_is_told_from_a_preemption(folder: RunFolder) -> None:
    signals: list[str] = []
    wished = threading.Event()
    with stop_on_wish(folder, None, wished=wished, signal_self=lambda: signals.append("stop")):
        write_wish(folder, StopWish())
        wait_until(wished.is_set)
    assert signals == ["stop"]


def test_a_preemption_saves_and_is_never_the_second_signal(folder: RunFolder) -> None:
    wished = threading.Event()
    with stop_on_signal(lambda text: None) as stopping, stop_on_wish(folder, None, wished=wished):
        os.kill(os.getpid(), signal.SIGTERM)  # the scheduler's own
        wait_until(stopping.is_set)
        write_wish(folder, StopWish(preempted=True))
        time.sleep(1.5)  # a second SIGTERM would raise KeyboardInterrupt here
        assert not wished.is_set()
    with stop_on_signal(lambda text: None) as stopping, stop_on_wish(folder, None):
        write_wish(folder, StopWish(preempted=True))
        wait_until(stopping.is_set)


def test_the_wish_is_for_the_driver_that_holds_the_run_even_if_it_was_submitted_before(job: Job) -> None:
    server, folder = StandIn(), RunFolder.of(job)
    submission = submit(job, client(server)).submission
    Submissions(folder).begin(submission, host="a head that has gone", pid=7)
    lock = RunLock(folder.path / "lock", job=job.name)
    lock.__enter__()  # of a driver that a scheduler has started

    def hear(now: float) -> None:
        wish = read_wish(folder)
        if wish is not None and wish.submission is None and wish.preempted:
            with suppress(FileNotFoundError):
                lock.__exit__(None, None, None)

    clock = Clock(hear)
    code, told = stop(Stopper(folder, None, clock.sleep, clock), now=False, preempted=True)
    assert code is ExitCode.DONE and "has stopped" in told and not (folder.path / FILE).exists()


@pytest.mark.slow
@pytest.mark.parametrize(("wish", "code"), [(StopWish(), 0), (StopWish(preempted=True), 75)])
def test_a_scheduled_run_exits_with_0_after_a_persons_stop_and_75_after_a_preemption(
    tmp_path: Path, wish: StopWish, code: int
) -> None:
    from support.tiny import tiny_job, write_job

    stages = tiny_job(tmp_path)["stages"]
    stages[2] |= {"budget": {"steps": 100_000}}
    path = write_job(tmp_path, stages=stages)
    command = [sys.executable, "-m", "espalier_cluster", "run", str(path), "--in-process", "--scheduled"]
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"}
    run = RunFolder(tmp_path / "runs" / "tiny")
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        killer = threading.Timer(240, driver.kill)
        killer.start()
        try:
            wait_until_steps(run.path, driver)
            write_wish(run, wish)
            assert driver.wait() == code
        finally:
            killer.cancel()
            driver.kill()


def wait_until_steps(run: Path, driver: subprocess.Popen[bytes]) -> None:
    from support.kill import num_steps

    while num_steps(run) < 3:
        assert driver.poll() is None, "the run has ended early"
        time.sleep(0.1)
