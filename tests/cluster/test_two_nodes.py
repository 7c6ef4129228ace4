"""A cluster of two nodes, simulated by two raylets on one machine with room for one worker each."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group

from espalier.config.faults import RefusedInput
from espalier.jobs.job import RetryConfig, WorkersConfig
from espalier.jobs.load import read_job
from espalier.planning.prepare import prepare
from espalier.stages.controller import ExitCode, Progress, Stop, Surroundings, carry_out
from espalier.stages.failures import StageFailed
from espalier.stages.orders import StageOrder
from espalier.stages.run_folder import RunFolder
from espalier_cluster.cluster_checks import look_at_cluster
from espalier_cluster.group_size import GroupSize
from espalier_cluster.joining import forget_token
from espalier_cluster.local_cluster import cluster
from espalier_cluster.log_filter import filter_logs
from espalier_cluster.occupants import who_is_waited_for
from espalier_cluster.preflight import check_cluster
from espalier_cluster.preflight_table import Preflight
from espalier_cluster.ray_runner import RayRunner
from support.kill import num_steps
from support.spawn import run_ranks
from support.tiny import tiny_job, write_job
from support.whole_run import recorded_steps, run_job

WORKERS = WorkersConfig(count=2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("a", "b", "run")}


@pytest.fixture(scope="module")
def nodes(folders: dict[str, Path]) -> Iterator[Cluster]:
    """Node b is started in another folder than node a, so /proc/self/cwd is a storage they do not share."""
    with pytest.MonkeyPatch.context() as patch, filter_logs():
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        forget_token()
        patch.chdir(folders["a"])
        both = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        patch.chdir(folders["b"])
        both.add_node(num_cpus=1)
        patch.chdir(folders["a"])
        try:
            with cluster(WORKERS, address=both.address, insecure=True):
                yield both
        finally:
            both.shutdown()


def test_a_node_that_does_not_see_the_storage_is_named_before_the_start(nodes: Cluster) -> None:
    lost_node = nodes.list_all_nodes()[1]
    with pytest.raises(RefusedInput) as refused:
        check_cluster(WORKERS, Path("/proc/self/cwd/storage"))
    (fault,) = refused.value.faults
    assert fault.path == "storage" and f":{lost_node.node_manager_port})" in fault.allowed


def test_a_storage_that_all_nodes_share_is_fine_and_stays_clean(nodes: Cluster, folders: dict[str, Path]) -> None:
    storage = folders["run"] / "storage"
    check_cluster(WORKERS, storage, needed_bytes=1)
    assert list(storage.iterdir()) == []


def test_the_table_of_a_cluster_names_the_node_that_lacks_storage_and_data(nodes: Cluster, tmp_path: Path) -> None:
    text = Path("/proc/self/cwd/a.txt")  # of the driver's folder, which is node a's
    write_job(tmp_path, data=tiny_job(tmp_path)["data"] | {"train": {"source": "text", "files": [str(text)]}})
    job = read_job(tmp_path / "job.yaml", ["workers.count=2", "storage=/proc/self/cwd/storage"])
    text.write_text("the king")
    Path(job.storage).mkdir(exist_ok=True)
    preflight = Preflight()
    reports = look_at_cluster(preflight, job, place=Path(job.storage))
    assert len(reports) == 2 and all(report.versions["torch"] for report in reports)
    states = {check.what: check.state for check in preflight.checks}
    bad = [name for name, state in states.items() if state == "bad"]
    assert bad == ["storage"] and states["workers"] == states["models"] == "good", preflight.checks
    assert len(preflight.faults) == 1 and list(Path(job.storage).iterdir()) == []


def test_a_node_that_has_other_data_is_named(nodes: Cluster, folders: dict[str, Path], tmp_path: Path) -> None:
    (folders["a"] / "own.txt").write_text("the king")
    (folders["b"] / "own.txt").write_text("the")
    write_job(
        tmp_path, data=tiny_job(tmp_path)["data"] | {"train": {"source": "text", "files": ["/proc/self/cwd/own.txt"]}}
    )
    preflight = Preflight()
    look_at_cluster(preflight, read_job(tmp_path / "job.yaml", ["workers.count=2"]), place=tmp_path)
    (fault,) = preflight.faults
    assert fault.path == "data.train.files" and "own.txt (3 bytes instead of 8)" in str(fault)
    assert {check.what for check in preflight.checks if check.state == "bad"} == {"data"}


def test_what_others_hold_is_waited_for_and_what_can_never_be_is_not(nodes: Cluster) -> None:
    assert who_is_waited_for(WORKERS) == "" == who_is_waited_for(WorkersConfig(count=3))

    @ray.remote(num_cpus=1)
    class Holder:
        def ready(self) -> bool:
            return True

    holder = Holder.remote()
    assert ray.get(holder.ready.remote())
    deadline = time.monotonic() + 20
    while not (busy := who_is_waited_for(WORKERS)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert busy == "busy: others hold 1 CPU; 1 of 2 CPUs free"
    ray.kill(holder)
    while who_is_waited_for(WORKERS):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    own = placement_group([{"CPU": 1}] * 2)
    assert own.wait(20) and who_is_waited_for(WORKERS) == "", "its own group is nobody to wait for"
    remove_placement_group(own)


@pytest.mark.slow
def test_orders_continue_after_the_loss_of_a_node(nodes: Cluster, folders: dict[str, Path]) -> None:
    run_folder = str(folders["run"])
    runner = RayRunner(GroupSize(WORKERS), run_folder, work="stand_in:serve")
    with ThreadPoolExecutor() as pool:  # Ray adds nodes on the main thread only
        first = pool.submit(runner.run, StageOrder(run_folder, "hold", 1))
        while not (folders["run"] / "holding").exists() and not first.done():
            time.sleep(0.1)
        nodes.remove_node(nodes.list_all_nodes()[1], allow_graceful=False)
        removed_at = time.monotonic()
        failure = first.exception()
        assert isinstance(failure, StageFailed) and failure.cause in ("worker_lost", "node_lost")
        assert time.monotonic() - removed_at < 20
        second = pool.submit(runner.run, StageOrder(run_folder, "hold", 2))
        time.sleep(2)
        nodes.add_node(num_cpus=1)
        assert second.result().metrics["sum"] == 1 + 2
    runner.close()


def test_waiting_for_a_node_ends_after_patience_seconds(nodes: Cluster, folders: dict[str, Path]) -> None:
    runner = RayRunner(
        GroupSize(WorkersConfig(count=3)), str(folders["run"]), work="stand_in:serve", patience_seconds=2
    )
    with pytest.raises(StageFailed) as failed:
        runner.run(StageOrder(str(folders["run"]), "any", 1))
    assert failed.value.cause == "stopped" and "at most 2" in failed.value.message
    runner.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_real_job_continues_after_the_loss_of_a_node(nodes: Cluster, tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for root in (calm, rough):
        stages = tiny_job(root)["stages"]
        stages[2] |= {"budget": {"steps": 80}, "zero_level": "parameters", "checkpoint": {"every": 5}}
        write_job(root, stages=stages, workers={"count": 2})
    run_ranks(run_job, 2, str(calm / "job.yaml"))
    prepared = prepare(read_job(rough / "job.yaml"))
    run = rough / "runs" / "tiny"
    prepared.write_down(RunFolder(run))
    runner = RayRunner(GroupSize(WORKERS), str(run))
    with ThreadPoolExecutor() as pool:
        stop = pool.submit(
            carry_out, prepared.plan, runner, run_folder=str(run), earlier=Progress({}), retry=RetryConfig()
        )
        while num_steps(run) < 22:
            assert not stop.done(), stop.result()
            time.sleep(0.02)
        nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
        time.sleep(2)
        nodes.add_node(num_cpus=1)
        assert stop.result().code is ExitCode.DONE
    runner.close()
    weights = [root / "runs" / "tiny" / "exports" / "out" / "model.safetensors" for root in (calm, rough)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_run_goes_on_with_one_worker_of_two_and_takes_the_second_again(nodes: Cluster, tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for root, workers in ((calm, {"count": 2}), (rough, {"count": 2, "min": 1})):
        stages = tiny_job(root)["stages"]
        steps = {"budget": {"steps": 300}, "checkpoint": {"every": 20}}
        # A loss with a floor: without one the divergence of near models is all rounding.
        losses = [{"function": "forward_kl"}, {"function": "cross_entropy", "weight": 0.1}]
        stages[2] |= steps | {
            "losses": losses,
            "zero_level": "optimizer",
            "optimizer": {"lr": 1e-4, "schedule": "constant"},
        }
        write_job(root, stages=stages, workers=workers)
    run_ranks(run_job, 2, str(calm / "job.yaml"))
    job = read_job(rough / "job.yaml")
    prepared, run = prepare(job), rough / "runs" / "tiny"
    prepared.write_down(RunFolder(run))
    stop = threading.Event()
    size = GroupSize(job.workers, job.worker_counts(), settle_seconds=1)
    runner = RayRunner(size, str(run), stop=stop, grow_seconds=2)
    options: dict[str, Any] = {"run_folder": str(run), "earlier": Progress({}), "retry": RetryConfig()}
    around = Surroundings(stop=stop)
    with ThreadPoolExecutor() as pool:
        end = pool.submit(partial(carry_out, prepared.plan, runner, surroundings=around, **options))
        await_steps(run, 22, end)
        nodes.remove_node(nodes.list_all_nodes()[-1], allow_graceful=False)
        await_steps(run, num_steps(run) + 25, end)
        nodes.add_node(num_cpus=1)
        while runner.num_workers != 2:
            assert not end.done(), end.result()
            time.sleep(0.1)
        await_steps(run, num_steps(run) + 25, end)
        stop.set()
        assert end.result().code is ExitCode.RESUMABLE
    runner.close()
    still, moved = (
        {one["step"]: one["loss"] for one in recorded_steps(root / "runs" / "tiny")} for root in (calm, rough)
    )
    both = sorted(still.keys() & moved.keys())
    assert len(both) > 60
    assert max(abs(still[step] - moved[step]) for step in both) < 1e-5


def await_steps(run: Path, number: int, end: Future[Stop]) -> None:
    while num_steps(run) < number:
        assert not end.done(), end.result()
        time.sleep(0.02)
