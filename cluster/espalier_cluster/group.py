"""One worker group: a Ray Train run in the background, and the desk that its workers take orders from."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.types import ObjectRef
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from espalier.config.job import WorkersConfig
from espalier.stages.orders import StageFailed, StageOrder
from espalier_cluster.desk import Desk
from espalier_cluster.failure import judge
from espalier_cluster.seat import SeatConfig, take_orders

# Long, because ranks wait in collectives while rank zero writes a whole model.
_COLLECTIVE_TIMEOUT_SECONDS = 3600
# For a group at rest to go in order. What Ray does after that (2.60: up to 12 s) ends nothing of ours.
_GRACE_SECONDS = 2.0


class WorkerGroup:
    """Processes that stay for several orders. Constructing it starts them and returns at once."""

    def __init__(self, workers: WorkersConfig, run_folder: str, *, work: str, verbose: bool) -> None:
        logs = "" if verbose else f"{run_folder}/logs"
        self._num_workers = workers.count
        self._given_up = False
        self._desk = _desk(workers.count)
        trainer = TorchTrainer(
            take_orders,
            train_loop_config=SeatConfig(desk=self._desk, work=work, logs=logs),
            torch_config=_torch_config(workers),
            scaling_config=_scaling_config(workers),
            run_config=_run_config(workers, run_folder, callback=_Watch(self._desk, logs)),
        )
        self._thread = threading.Thread(target=self._fit, args=(trainer,), name="worker-group", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether another order can be given to it."""
        return self._thread.is_alive() and not self._given_up

    def carry_out(self, order: StageOrder) -> ObjectRef:
        """Lay the order on the desk; the reference resolves to a `StageResult` or a `StageFailed`."""
        return self._desk.carry_out.remote(order)

    def is_seated(self) -> bool:
        """Whether all workers have started."""
        return ray.get(self._desk.num_seated.remote()) == self._num_workers

    def give_up(self) -> None:
        """Take no more orders. Ray takes the processes down by itself, and the next group waits for their place."""
        self._given_up = True

    def leave(self) -> None:
        """Send the workers home and end those that are at work."""
        self.give_up()
        with contextlib.suppress(RayActorError):  # without a desk, workers fail at their next call to it
            for worker in ray.get(self._desk.close.remote()).values():
                ray.kill(worker)
        self._thread.join(_GRACE_SECONDS)

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
            ending = "The workers went home."
        except Exception as error:
            ending = f"Ray Train gave the worker group up: {error}"
        with contextlib.suppress(Exception):  # nobody may be there any more
            # Heard only if nobody gave a better reason before.
            self._desk.lose.remote(StageFailed("worker_lost", ending))


class _Watch(UserCallback):
    """Tells the desk of a failure when Ray notices it; `fit` returns only after taking the group down."""

    def __init__(self, desk: ActorHandle, logs: str) -> None:
        self._desk = desk
        self._logs = logs

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        self._desk.lose.remote(judge(worker_exceptions, logs=self._logs))


def _desk(num_workers: int) -> ActorHandle:
    # On the driver's node: of no use without the driver, and not to go down with a worker's node.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_concurrency": num_workers + 16, "scheduling_strategy": here}
    return ray.remote(Desk).options(**options).remote(num_workers)


def _torch_config(workers: WorkersConfig) -> TorchConfig:
    backend = "cpu:gloo,cuda:nccl" if workers.gpus_each else "gloo"
    return TorchConfig(backend=backend, timeout_s=_COLLECTIVE_TIMEOUT_SECONDS)


def _scaling_config(workers: WorkersConfig) -> ScalingConfig:
    each = {"CPU": workers.cpus_each} | ({"GPU": workers.gpus_each} if workers.gpus_each else {})
    return ScalingConfig(num_workers=workers.count, use_gpu=workers.gpus_each > 0, resources_per_worker=each)


def _run_config(workers: WorkersConfig, run_folder: str, *, callback: UserCallback) -> RunConfig:
    return RunConfig(
        name="ray",  # Ray Train wants a folder on the shared storage; nothing of ours is in it
        storage_path=run_folder,
        failure_config=FailureConfig(max_failures=0),
        callbacks=[callback],
        logging_config=LoggingConfig(log_level="ERROR"),
        # torchrun sets it, Ray does not; without it every worker takes all the cores.
        worker_runtime_env={"env_vars": {"OMP_NUM_THREADS": str(workers.cpus_each)}},
    )
