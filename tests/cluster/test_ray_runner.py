"""The runner on one small local Ray cluster, through kills, exceptions, hangs and stops, in this order."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from espalier.jobs.job import RetryConfig, WorkersConfig
from espalier.stages.failures import StageFailed
from espalier.stages.orders import StageOrder
from espalier_cluster.group_size import GroupSize
from espalier_cluster.local_cluster import cluster
from espalier_cluster.log_filter import filter_logs
from espalier_cluster.ray_runner import Notices, RayRunner

WORKERS = WorkersConfig(count=2, cpus_each=3)
WAITS: list[str] = []
PLACES: list[dict[str, int]] = []


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture(scope="module")
def runner(run_folder: str, stop: threading.Event) -> Iterator[RayRunner]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        with filter_logs(), cluster(WORKERS):
            notices = Notices(WAITS.append, lambda hosts: PLACES.append(dict(hosts)))
            size, retry = GroupSize(WORKERS), RetryConfig(hang_seconds=3)
            runner = RayRunner(size, run_folder, work="stand_in:serve", stop=stop, retry=retry, notices=notices)
            yield runner
            runner.close()


def failure_of(runner: RayRunner, order: StageOrder) -> StageFailed:
    with pytest.raises(StageFailed) as failed:
        runner.run(order)
    return failed.value


def test_consecutive_orders_run_on_the_same_processes_without_delay(runner: RayRunner, run_folder: str) -> None:
    results = [runner.run(StageOrder(run_folder, f"stage{n}", 1)) for n in range(2)]
    started = time.monotonic()
    results.append(runner.run(StageOrder(run_folder, "stage2", 1)))
    assert time.monotonic() - started < 0.5
    assert len({result.metrics["pid"] for result in results}) == 1
    assert [result.stage for result in results] == ["stage0", "stage1", "stage2"]
    assert [{socket.gethostname(): WORKERS.count}] * 3 == PLACES
    assert WAITS[-1] == "" and all("workers" in text for text in WAITS if text)
    assert results[0].metrics["sum"] == 1 + 2
    assert results[0].metrics["threads"] == str(WORKERS.cpus_each)


def test_workers_of_one_host_rendezvous_through_a_private_file_and_listen_on_loopback(
    runner: RayRunner, run_folder: str
) -> None:
    found = runner.run(StageOrder(run_folder, "meeting", 1)).metrics
    assert found["port"] is None and set(found["listening"]) <= {"127.0.0.1", "::ffff:127.0.0.1"}
    (meeting,) = Path(found["folder"]).glob("group-*/store")
    assert meeting.stat().st_size and Path(found["folder"]).stat().st_mode & 0o077 == 0


def test_a_killed_worker_is_noticed_and_the_next_attempt_goes_on_in_a_new_group(
    runner: RayRunner, run_folder: str
) -> None:
    before = runner.run(StageOrder(run_folder, "before", 1)).metrics["pid"]
    failure = failure_of(runner, StageOrder(run_folder, "die", 1))
    noticed_after = time.time() - float(Path(run_folder, "died_at").read_text())
    assert failure.cause == "worker_lost"
    assert noticed_after < 3
    assert f"{run_folder}/logs/worker-" in failure.message
    after = runner.run(StageOrder(run_folder, "die", 2)).metrics
    assert after["sum"] == 1 + 2 and after["pid"] != before
    assert not psutil.pid_exists(before)


def test_an_exception_on_one_rank_comes_back_with_its_traceback(runner: RayRunner, run_folder: str) -> None:
    failure = failure_of(runner, StageOrder(run_folder, "raise", 1))
    assert failure.cause == "error"
    assert "Worker 1" in failure.message and "seven is not a power of two" in failure.message
    assert "_misbehave" in failure.detail
    assert "_misbehave" in Path(run_folder, "logs", "worker-1.log").read_text()


def test_a_stopped_worker_is_detected_and_every_worker_writes_its_stacks(runner: RayRunner, run_folder: str) -> None:
    failure = failure_of(runner, StageOrder(run_folder, "steps", 1))
    assert failure.cause == "hang"
    assert 2 <= failure.silent_seconds < 8
    pid = Path(run_folder, "pid-1").read_text()
    assert f"worker 1 was stopped from outside (process {pid})" in failure.message
    assert "_take_steps" in Path(run_folder, "logs", "stacks", "worker-0.txt").read_text()
    assert runner.run(StageOrder(run_folder, "after", 1)).metrics["sum"] == 1 + 2
    assert "_take_steps" in Path(run_folder, "logs", "stacks", "worker-0.txt").read_text(), "the next group keeps them"
    psutil.wait_procs([psutil.Process(int(pid))] if psutil.pid_exists(int(pid)) else [], timeout=10)
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE


def pid_in(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def test_sigterm_to_a_worker_is_a_preemption(runner: RayRunner, run_folder: str) -> None:
    file = Path(run_folder, "pid-1")
    before = pid_in(file)
    with ThreadPoolExecutor() as pool:
        failure = pool.submit(failure_of, runner, StageOrder(run_folder, "steps", 2))
        while (pid := pid_in(file)) in ("", before):
            time.sleep(0.1)
        os.kill(int(pid), signal.SIGTERM)
        assert failure.result(timeout=30).cause == "preempted"


def test_a_stop_request_reaches_the_workers(runner: RayRunner, run_folder: str, stop: threading.Event) -> None:
    with ThreadPoolExecutor() as pool:
        failure = pool.submit(failure_of, runner, StageOrder(run_folder, "steps", 3))
        time.sleep(1)
        stop.set()
        assert failure.result(timeout=60).cause == "stopped"
    stop.clear()
