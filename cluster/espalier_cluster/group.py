"""The workers as the driver holds them: the process that runs Ray Train, and the desk with the orders."""

from __future__ import annotations

import contextlib
from typing import Any

import ray
from ray.exceptions import RayError
from ray.types import ObjectRef
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from espalier.jobs.job import WorkersConfig
from espalier.stages.orders import StageOrder
from espalier_cluster.desk import Chair, Desk
from espalier_cluster.ending import end_processes
from espalier_cluster.watch import Hang

_GRACE_SECONDS = 2.0
_ANSWER_SECONDS = 30.0


class WorkerGroup:
    """Processes that stay for several orders. Constructing it starts them and returns at once. When one fails or is
    lost, Ray Train replaces all of them: nothing is taken over from memory.

    Ray Train has a process of its own because it waits as long as the group lives. A thread of the driver
    that waits in Ray kills the driver when Ray is shut down (2.60); a process can be ended at any time, with
    all that it owns.
    """

    def __init__(
        self, workers: WorkersConfig, run_folder: str, *, work: str, verbose: bool, hang_seconds: float
    ) -> None:
        # On the driver's node: of no use without the driver, and not to go down with a worker's node.
        node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        here: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": node}
        logs = "" if verbose else f"{run_folder}/logs"
        self._num_workers = workers.count
        self._is_left = False
        desk = ray.remote(Desk).options(max_concurrency=2 * workers.count + 16, **here)
        self._desk = desk.remote(workers.count, hang_seconds=hang_seconds)
        seat = {"desk": self._desk, "work": work, "logs": logs, "stacks": f"{run_folder}/logs/stacks"}
        self._train = ray.remote(_train).options(max_retries=0, **here).remote(workers, run_folder, seat)

    def carry_out(self, order: StageOrder) -> ObjectRef:
        """Lay the order on the desk; the reference resolves to a `StageResult` or a `StageFailed`."""
        return self._desk.carry_out.remote(order)

    @property
    def is_open(self) -> bool:
        """Whether another order can be given to it."""
        return not self._is_left and self.ending() is None

    def is_seated(self) -> bool:
        """Whether all workers have started."""
        return _answer(self._desk.num_seated.remote()) == self._num_workers

    def ask_to_stop(self) -> None:
        """Let the ranks save at the end of their step and end the order."""
        self._desk.ask_to_stop.remote()

    def end_hang(self) -> tuple[Hang, str] | None:
        """If the order that is out hangs: how, and what was found when all workers, which first write down where they
        are, were killed. Others start."""
        found: tuple[Hang, list[Chair]] | None = _answer(self._desk.end_hang.remote())
        return None if found is None else (found[0], end_processes(found[1]))

    def ending(self) -> str | None:
        """Why Ray Train ended; None while it runs."""
        if not ray.wait([self._train], timeout=0)[0]:
            return None
        try:
            return ray.get(self._train)
        except RayError as error:
            return f"its process died: {error}"

    def leave(self) -> None:
        """Send the workers home; end those that do not go."""
        self._is_left = True
        some_go = False
        with contextlib.suppress(RayError):
            some_go = _answer(self._desk.close.remote())
        if not ray.wait([self._train], timeout=_GRACE_SECONDS if some_go else 0)[0]:
            ray.cancel(self._train, force=True)
            # Ray gives the process to the next run at once, which must not be the one that is ended.
            ray.wait([self._train], timeout=_GRACE_SECONDS)
        with contextlib.suppress(RayError):
            _free_places()


def _free_places() -> None:
    """Give back what this driver's job has reserved: the next group needs the room.

    Ray Train does so where it ends by itself. Where it is ended it leaves that to an actor which asks the dashboard
    whether it is gone, and our local clusters have none (2.60).
    """
    job = ray.get_runtime_context().get_job_id()
    for place, found in placement_group_table().items():
        if place.endswith(job) and found["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(place))))


def _answer(asked: ObjectRef) -> Any:
    """The desk's answer.

    Raises:
        RayError: the desk died, or does not answer: Ray itself would wait for ever when its node is gone.
    """
    return ray.get(asked, timeout=_ANSWER_SECONDS)


def _train(workers: WorkersConfig, run_folder: str, seat: dict[str, Any]) -> str:
    """Run Ray Train to its end and say why it ended: Ray would print an error that nobody has asked for."""
    from espalier_cluster.train import fit  # here, because it brings torch, which the driver does not need

    try:
        fit(workers, run_folder, seat)
    except Exception as error:
        return str(error)
    return "the workers went home"
