"""The driver's handle on its workers: the order queue actor and the Ray task that runs Ray Train."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.exceptions import RayError
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from espalier.jobs.job import WorkersConfig
from espalier.stages.failures import StageFailed
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.hang_detector import Hang
from espalier_cluster.kill_workers import kill_workers
from espalier_cluster.order_queue import OrderQueue, WorkerAddress

if TYPE_CHECKING:  # it imports Ray Train, which the driver does not need
    from espalier_cluster.worker_loop import WorkerLoopConfig

_GRACE_SECONDS = 2.0
_ANSWER_SECONDS = 30.0


class WorkerGroup:
    """Worker processes that carry out several orders. The constructor starts them and returns at once.

    Attributes:
        num_workers: of the group.

    When one worker fails or is lost, Ray Train replaces all of them; nothing is kept from memory.

    Ray Train runs in a process of its own because it blocks as long as the group lives. A thread of the driver that
    blocks in Ray kills the driver when Ray is shut down (2.60); a process can be ended at any time, with all it owns.
    """

    def __init__(
        self, workers: WorkersConfig, run_folder: str, *, work: str, verbose: bool, hang_seconds: float
    ) -> None:
        logs = "" if verbose else f"{run_folder}/logs"
        self.num_workers = workers.count
        self._is_left = False
        actor: Any = ray.remote(OrderQueue).options(**queue_options(workers.count))
        self._queue: ActorHandle = actor.remote(workers.count, hang_seconds=hang_seconds)
        loop: WorkerLoopConfig = {
            "queue": self._queue,
            "work": work,
            "logs": logs,
            "stacks": f"{run_folder}/logs/stacks",
        }
        self._train = ray.remote(_train).options(max_retries=0, **_here()).remote(workers, run_folder, loop)

    def carry_out(self, order: StageOrder) -> ObjectRef[StageResult | StageFailed]:
        """Put the order into the queue; the reference resolves to a `StageResult` or a `StageFailed`."""
        return self._queue.carry_out.remote(order)

    @property
    def is_open(self) -> bool:
        """Whether another order can be given to it."""
        return not self._is_left and self.why_ended() is None

    def has_started(self) -> bool:
        """Whether all workers have started."""
        return _answer(self._queue.num_started_workers.remote()) == self.num_workers

    def has_room(self) -> bool:
        """Whether the cluster has given room to the group; its workers may still be starting."""
        return any(found["state"] == "CREATED" for _, found in _own_places())

    def hosts(self) -> dict[str, int]:
        """Host -> number of workers that have started on it."""
        return _answer(self._queue.hosts.remote())

    def ask_to_stop(self) -> None:
        """Ask the ranks to save at the end of their step and to end the order."""
        self._queue.ask_to_stop.remote()

    def end_hang(self) -> tuple[Hang, str] | None:
        """If the current order hangs, dump the workers' stacks and kill them, so that Ray Train starts others.

        Returns:
            The hang, and what was found about the killed processes; None when nothing hangs.
        """
        found: tuple[Hang, list[WorkerAddress]] | None = _answer(self._queue.end_hang.remote())
        return None if found is None else (found[0], kill_workers(found[1]))

    def why_ended(self) -> str | None:
        """The reason why Ray Train ended; None while it runs."""
        if not ray.wait([self._train], timeout=0)[0]:
            return None
        try:
            return ray.get(self._train)
        except RayError as error:
            return f"its process died: {error}"

    def leave(self) -> None:
        """Close the queue so that the workers exit, and cancel Ray Train where they do not."""
        self._is_left = True
        some_go = False
        with contextlib.suppress(RayError):
            some_go = _answer(self._queue.close.remote())
        if not ray.wait([self._train], timeout=_GRACE_SECONDS if some_go else 0)[0]:
            ray.cancel(self._train, force=True)
            # Ray reuses the process at once: wait, so that the next group's run is not the one that is cancelled.
            ray.wait([self._train], timeout=_GRACE_SECONDS)
        with contextlib.suppress(RayError):
            _free_places()


def queue_options(num_workers: int) -> dict[str, Any]:
    """Ray's options of the order queue's actor: every worker may wait for an order and send a heartbeat at once."""
    return {"max_concurrency": 2 * num_workers + 16, **_here()}


def _here() -> dict[str, Any]:
    """On the driver's node: useless without the driver, and must not be lost with a worker's node."""
    node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return {"num_cpus": 0, "scheduling_strategy": node}


def _free_places() -> None:
    """Remove the placement groups of this driver's Ray job: the next group needs their resources.

    Ray Train does so when it ends by itself. When it is cancelled, it relies on an actor that asks the dashboard,
    and our local clusters have none (2.60).
    """
    for place, found in _own_places():
        if found["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(place))))


def _own_places() -> list[tuple[str, dict[str, Any]]]:
    """Placement groups of this driver's Ray job: their ids and states."""
    job = ray.get_runtime_context().get_job_id()
    return [(place, found) for place, found in placement_group_table().items() if place.endswith(job)]


def _answer(asked: ObjectRef[Any]) -> Any:
    """Get an answer of the order queue.

    Raises:
        RayError: the actor died or does not answer in time: without the timeout Ray waits for ever for a lost node.
    """
    return ray.get(asked, timeout=_ANSWER_SECONDS)


def _train(workers: WorkersConfig, run_folder: str, loop: WorkerLoopConfig) -> str:
    """Run Ray Train to its end; returns why it ended, because Ray would print an exception to the terminal."""
    from espalier_cluster.train import fit  # imports torch, which the driver does not need

    try:
        fit(workers, run_folder, loop)
    except Exception as error:
        return str(error)
    return "the workers ended"
