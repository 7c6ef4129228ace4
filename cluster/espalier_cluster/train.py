"""Run Ray Train, which starts the workers and restarts all of them whenever one fails."""

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
from espalier.stages.failures import StageFailed
from espalier_cluster.failure import cause_of, judge
from espalier_cluster.process_group import ProcessGroupConfig
from espalier_cluster.worker_loop import WorkerLoopConfig, join, take_orders

# Long, because ranks wait in collectives while rank zero writes a whole model.
_COLLECTIVE_TIMEOUT_SECONDS = 3600


def fit(workers: WorkersConfig, run_folder: str, loop: WorkerLoopConfig) -> None:
    """Start the workers and their process group; return when every worker's loop has ended.

    When a worker fails or is lost, the order queue is told why, and all workers are restarted at once: whether another
    order will follow is not known here, and importing libraries takes longer than waiting for that decision.

    Raises:
        ray.train.TrainingFailedError: the workers cannot be started.
    """
    queue = loop["queue"]
    callbacks = [_FailureReporter(queue, loop["logs"]), _GroupOpener(queue)]
    _Trainer(
        take_orders,  # type: ignore[arg-type]  # Ray wants a plain dict, which a TypedDict is at run time
        train_loop_config=dict(loop),
        torch_config=_torch_config(workers),
        scaling_config=_scaling_config(workers),
        run_config=_run_config(workers, run_folder, callbacks=callbacks),
    ).fit()


class _Trainer(TorchTrainer):
    """Ray's trainer without Ray Data, which would start one more process that nothing uses.

    Our callback that opens a group comes first, before the callbacks that can fail.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()  # type: ignore[misc]  # of v2; mypy sees the class of v1
        needed = [one for one in callbacks if not isinstance(one, DatasetsCallback)]
        return sorted(needed, key=lambda one: not isinstance(one, _GroupOpener))


class _FailureReporter(UserCallback):
    """Fails the order queue's current order when Ray reports an exception of a worker."""

    def __init__(self, queue: ActorHandle, logs: str) -> None:
        self._queue = queue
        self._logs = logs

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        ray.get(self._queue.lose_group.remote(judge(worker_exceptions, logs=self._logs)))


class _GroupOpener(WorkerGroupCallback):
    """Opens a group in the order queue before workers start, and fails it when their start fails.

    `join` runs in each worker's main thread, because only that may handle signals and Ray runs our work in another.
    """

    def __init__(self, queue: ActorHandle) -> None:
        self._queue = queue
        self._number = 0
        self._started: Any = None

    @contextmanager
    def on_worker_group_start(self) -> Iterator[None]:
        self._started = None
        try:
            yield
        except WorkerGroupStartupTimeoutError:  # no room yet: Ray retries, and the driver tells of the lack itself
            raise
        except Exception as error:
            if self._started is not None:
                # When a later step of the start fails, Ray leaks the started workers and their placement group.
                self._started.get_worker_group_state().shutdown()
            text = f"A worker failed while it started: {cause_of(error)}"
            ray.get(self._queue.lose_group.remote(StageFailed("worker_lost", text, str(error))))
            raise WorkerGroupStartupFailedError(text) from error  # Ray retries on this error

    def before_worker_group_start(self, worker_group_context: Any) -> None:
        number: ray.ObjectRef[int] = self._queue.open_group.remote()
        self._number = ray.get(number)

    def after_worker_group_start(self, worker_group: Any) -> None:
        self._started = worker_group
        worker_group.execute(join, self._number)


def _torch_config(workers: WorkersConfig) -> ProcessGroupConfig:
    backend = "cpu:gloo,cuda:nccl" if workers.gpus_each else "gloo"
    return ProcessGroupConfig(backend=backend, timeout_s=_COLLECTIVE_TIMEOUT_SECONDS)


def _scaling_config(workers: WorkersConfig) -> ScalingConfig:
    each = {"CPU": workers.cpus_each} | ({"GPU": workers.gpus_each} if workers.gpus_each else {})
    return ScalingConfig(  # type: ignore[call-arg]  # arguments of v2; mypy sees the class of v1
        num_workers=workers.count,
        use_gpu=workers.gpus_each > 0,
        resources_per_worker=each,
        accelerator_type=workers.accelerator,
        label_selector=dict(workers.labels) or None,
        placement_strategy="PACK",  # on as few nodes as have room
    )


def _run_config(workers: WorkersConfig, run_folder: str, *, callbacks: list[Any]) -> RunConfig:
    return RunConfig(  # type: ignore[call-arg]  # arguments of v2; mypy sees the class of v1
        name="ray",  # Ray Train requires a folder on the shared storage; we store nothing in it
        storage_path=run_folder,
        failure_config=FailureConfig(max_failures=-1),  # unlimited: the controller decides when to give up
        callbacks=callbacks,
        logging_config=LoggingConfig(log_level="ERROR"),
        # torchrun sets this and Ray does not; without it every worker would use all cores.
        worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(workers.cpus_each)}},
    )
