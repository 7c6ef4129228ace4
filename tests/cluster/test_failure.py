"""The failure that caused the others is found among those of all ranks, and survives the way to the driver."""

import errno
import pickle

import pytest
import torch
from ray.exceptions import RayTaskError

from espalier.stages.failures import StageFailed
from espalier.worker.failure import describe
from espalier_cluster.failure import RankFailed, cause_of, judge

BROKEN = "[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:11649"


def told(rank: int, error: Exception, *, at: float) -> RankFailed:
    return RankFailed(rank, at, describe(error, where=f"Worker {rank}", see=f" /run/logs/worker-{rank}.log"))


def test_the_failure_that_is_not_about_a_connection_is_the_cause() -> None:
    errors = {0: told(0, RuntimeError(BROKEN), at=1.0), 2: told(2, KeyError("lr"), at=2.0)}
    failure = judge(errors, logs="/run/logs")
    assert failure.cause == "error"
    assert "Worker 2" in failure.message and "KeyError" in failure.detail


def test_the_earliest_of_several_is_the_cause() -> None:
    errors = {rank: told(rank, ValueError(f"number {rank}"), at=10.0 - rank) for rank in range(3)}
    assert "number 2" in judge(errors, logs="").message


def test_a_dead_process_is_the_cause_of_the_other_failures() -> None:
    death = Exception("A worker health check failed.\n hostname='node7',\nThe actor died unexpectedly")
    failure = judge({0: told(0, RuntimeError(BROKEN), at=1.0), 3: death}, logs="/run/logs")
    assert failure.cause == "worker_lost"
    assert "Worker 3 on node7" in failure.message and "/run/logs/worker-3.log" in failure.message


@pytest.mark.parametrize(
    ("story", "cause"),
    [
        ("The actor is dead because its node has died. Node Id: 77", "node_lost"),
        ("Task was killed due to the node running low on memory.", "out_of_memory"),
        ("Worker exit type: NODE_OUT_OF_MEMORY", "out_of_memory"),
        ("possible causes: the process was killed by the OOM killer", "worker_lost"),
    ],
)
def test_the_cause_of_a_death_is_read_from_rays_message(story: str, cause: str) -> None:
    assert judge({1: Exception(story)}, logs="").cause == cause


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), "worker_lost"),
        (RuntimeError(BROKEN), "worker_lost"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error"),
        (StageFailed("stopped", "asked to stop"), "stopped"),
    ],
)
def test_exceptions_are_classified_on_the_rank(error: Exception, cause: str) -> None:
    assert describe(error, where="").cause == cause


def test_failures_survive_pickling() -> None:
    before = RankFailed(5, 7.5, StageFailed("node_lost", "gone", "where"))
    after = pickle.loads(pickle.dumps(before))
    assert (after.rank, after.at_seconds) == (5, 7.5)
    assert (after.failure.cause, after.failure.message, after.failure.detail) == (
        "node_lost",
        "gone",
        "where",
    )


def test_the_cause_of_a_failed_remote_call_is_what_was_raised_there() -> None:
    raised = RuntimeError("Gloo connectFullMesh failed\nat pair.cc")
    call = RayTaskError("set_up", "Traceback ...", raised, proctitle="ray::set_up()", pid=7, ip="10.0.0.3")
    for error in (call, call.as_instanceof_cause(), raised):
        assert cause_of(error) == "RuntimeError: Gloo connectFullMesh failed"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_or_read_only_storage_is_a_storage_failure(number: int) -> None:
    assert describe(OSError(number, "no"), where="step 3").cause == "storage"
    assert describe(OSError(errno.EACCES, "no"), where="step 3").cause == "error"
