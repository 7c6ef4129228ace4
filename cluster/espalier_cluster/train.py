"""The Ray Train run behind the workers. Runs in a process of its own, and stays when it loses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks import DatasetsCallback  # these are not public (2.60)
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.callback import WorkerGroupCallback

from espalier.jobs.job import WorkersConfig
from espalier.stages.orders import StageFailed
from espalier_cluster.failure import judge
from espalier_cluster.process_group import ProcessGroupConfig
from espalier_cluster.seat import SeatConfig, join, take_orders

# Long, because ranks wait in collectives while rank zero writes a whole model.
_COLLECTIVE_TIMEOUT_SECONDS = 3600


def fit(workers: WorkersConfig, run_folder: str, seat: SeatConfig) -> None:
    """Start the workers, set up their process group, and return when all have gone home.

    When one fails or is lost, the desk is told why and all are started anew, at once: whether there will be another
    order for them is not known here, but their imports take longer than the answer.

    Raises:
        ray.train.TrainingFailedError: they cannot be started.
    """
    desk = seat["desk"]
    _Trainer(
        take_orders,
        train_loop_config=dict(seat),
        torch_config=_torch_config(workers),
        scaling_config=_scaling_config(workers),
        run_config=_run_config(workers, run_folder, callbacks=[_Watch(desk, seat["logs"]), _Group(desk)]),
    ).fit()


class _Trainer(TorchTrainer):
    """Without Ray Data, of which nothing is used: every start would wait for one more process, its manager.

    What prepares a group for us comes before all that can fail.
    """

    def _create_default_callbacks(self) -> list[Any]:
        needed = [one for one in super()._create_default_callbacks() if not isinstance(one, DatasetsCallback)]
        return sorted(needed, key=lambda one: not isinstance(one, _Group))


class _Watch(UserCallback):
    """Tells the desk of a failure when Ray notices it."""

    def __init__(self, desk: ActorHandle, logs: str) -> None:
        self._desk = desk
        self._logs = logs

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        ray.get(self._desk.lose.remote(judge(worker_exceptions, logs=self._logs)))


class _Group(WorkerGroupCallback):
    """Opens the desk to new workers, and tells it when their start fails, of which Ray tells nobody.

    Each joins in its main thread: only that may heed signals, and Ray runs our work in another.
    """

    def __init__(self, desk: ActorHandle) -> None:
        self._desk = desk
        self._number = 0
        self._started: Any = None

    @contextmanager
    def on_worker_group_start(self) -> Iterator[None]:
        self._started = None
        try:
            yield
        except WorkerGroupStartupTimeoutError:  # no room yet: the driver sees that for itself, and Ray tries again
            raise
        except Exception as error:
            if self._started is not None:
                # Ray forgets workers that had started, and the place they hold, when a later step of a start fails.
                self._started.get_worker_group_state().shutdown()
            first, _, _ = str(error).partition("\n")
            text = f"A worker failed while it started: {first}"
            ray.get(self._desk.lose.remote(StageFailed("worker_lost", text, str(error))))
            raise WorkerGroupStartupFailedError(text) from error  # which Ray tries again

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        self._number = ray.get(self._desk.open_group.remote())

    def after_worker_group_start(self, worker_group: Any) -> None:
        self._started = worker_group
        worker_group.execute(join, self._number)


def _torch_config(workers: WorkersConfig) -> ProcessGroupConfig:
    backend = "cpu:gloo,cuda:nccl" if workers.gpus_each else "gloo"
    return ProcessGroupConfig(backend=backend, timeout_s=_COLLECTIVE_TIMEOUT_SECONDS)


def _scaling_config(workers: WorkersConfig) -> ScalingConfig:
    each = {"CPU": workers.cpus_each} | ({"GPU": workers.gpus_each} if workers.gpus_each else {})
    return ScalingConfig(num_workers=workers.count, use_gpu=workers.gpus_each > 0, resources_per_worker=each)


def _run_config(workers: WorkersConfig, run_folder: str, *, callbacks: list[Any]) -> RunConfig:
    return RunConfig(
        name="ray",  # Ray Train wants a folder on the shared storage; nothing of ours is in it
        storage_path=run_folder,
        failure_config=FailureConfig(max_failures=-1),  # when the driver has had enough, it gives no order
        callbacks=callbacks,
        logging_config=LoggingConfig(log_level="ERROR"),
        # torchrun sets it, Ray does not; without it every worker takes all the cores.
        worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(workers.cpus_each)}},
    )
