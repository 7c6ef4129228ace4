"""The runner that carries out orders on a group of Ray workers, which lives longer than a stage.

Ray Train places, starts and monitors the processes. When one is lost or raises, it replaces all of them, so the next
order finds workers without any state. Whether there is a next order is decided by the controller alone.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from espalier.jobs.job import RetryConfig
from espalier.stages.failures import StageFailed
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.group import WorkerGroup
from espalier_cluster.group_size import GroupSize
from espalier_cluster.head_node import HeadNode, node_lives
from espalier_cluster.occupants import who_is_waited_for
from espalier_cluster.preflight import room_faults

_Outcome = StageResult | StageFailed

_log = logging.getLogger("espalier.cluster")

_POLL_SECONDS = 0.5
_WARN_SECONDS = 30.0
_SHRINK_SECONDS = 30.0  # without all workers, before the group gives way to a smaller one
_GROW_SECONDS = 60.0  # between two looks for room for more workers: each change of size costs a save and a start
_HEAD_STOP_SECONDS, _HEAD_LOST_SECONDS = 20.0, 40.0  # a head node may restart in between; Ray itself waits for 60


@dataclass(frozen=True)
class Notices:
    """Callbacks for what becomes known of the workers while an order is carried out.

    Attributes:
        waits_for: what the order waits for, in words; empty when its workers have started.
        placed: once for each order: host -> number of workers.
    """

    waits_for: Callable[[str], None] = lambda text: None
    placed: Callable[[Mapping[str, int]], None] = lambda hosts: None


class RayRunner:
    """A `Runner` on the Ray cluster that this process is connected to.

    The workers start with the first order, so a run with nothing left to do starts none.
    """

    def __init__(
        self,
        size: GroupSize,
        run_folder: str,
        *,
        work: str = "espalier.worker.run_stage:serve",
        verbose: bool = False,
        stop: threading.Event | None = None,
        retry: RetryConfig | None = None,
        patience_seconds: float = 600.0,
        grow_seconds: float = _GROW_SECONDS,
        notices: Notices | None = None,
    ) -> None:
        """Store the settings; starts nothing.

        Args:
            run_folder: absolute, on storage that every node sees. The workers' logs go to `logs` in it.
            work: `module:function`, called on every rank: takes a `StageOrder`, returns a `StageResult`.
            verbose: let Ray forward the workers' output to this terminal instead of writing logs.
            stop: when set, the current order has to end after a step.
            patience_seconds: how long to wait for workers to start, or for nodes while the cluster is too small.
            grow_seconds: how often to look for room for more workers.
        """
        self._size = size
        self._run_folder = run_folder
        self._work = work
        self._verbose = verbose
        self._stop = stop or threading.Event()
        self._retry = retry or RetryConfig()
        self._patience_seconds = patience_seconds
        self._grow_seconds = grow_seconds
        self._notices = notices or Notices()
        self._group: WorkerGroup | None = None
        self._head_node = HeadNode()

    def run(self, order: StageOrder) -> StageResult:
        """Carry out one order and wait for its result.

        Raises:
            StageFailed: with its cause. The next order runs on new processes.
        """
        waiting_since = time.monotonic()
        while True:
            group = self._open_group()
            try:
                outcome = self._await_outcome(group, group.carry_out(order), waiting_since)
            except RayError as error:  # the queue's actor runs on the driver's node: somebody killed it, or the node
                outcome = StageFailed("worker_lost", "The process that hands out the orders died.", str(error))
                group.leave()  # its workers may still be working
            if isinstance(outcome, StageFailed):
                raise outcome
            if outcome is not None:
                return outcome
            group.leave()  # not all of its workers fit: another number does

    @property
    def num_workers(self) -> int:
        """Of the group that there is; 0 without one."""
        return self._group.num_workers if self._group else 0

    def close(self) -> None:
        """Let the workers exit, or kill them if they are working. May be called twice."""
        if self._group is not None:
            if not self._head_node.silent_seconds() and node_lives():  # else Ray ends all processes by itself
                self._group.leave()
            self._group = None

    def _open_group(self) -> WorkerGroup:
        """The group, or another one where it has ended or a larger one fits."""
        group = self._group
        if group is not None and (not group.is_open or self._size.larger(group.num_workers)):
            group.leave()  # it may still hold resources that the next group needs
            self._group = None
        if self._group is None:
            count = self._size.choose()
            if count < (most := self._size.counts[-1]):
                _log.warning("Going on with %d of %d workers, as no more fit.", count, most)
            self._group = WorkerGroup(
                self._size.workers.model_copy(update={"count": count}),
                self._run_folder,
                work=self._work,
                verbose=self._verbose,
                hang_seconds=self._retry.hang_seconds,
            )
        return self._group

    def _await_outcome(
        self, group: WorkerGroup, answer: ObjectRef[_Outcome], waiting_since: float
    ) -> StageResult | StageFailed | None:
        """Wait for the outcome of an order; None when the group does not come about and a smaller one may."""
        spoke_at = began = looked_at = time.monotonic()
        asked_at: float | None = None
        larger: int | None = None
        placed = self._places(group)
        while not ray.wait([answer], timeout=_POLL_SECONDS)[0]:
            now = time.monotonic()
            silent = self._head_node.silent_seconds()
            if lost := self._cluster_lost(silent):
                return lost
            if end := group.why_ended():
                # A failing worker is reported to the queue before Ray Train ends; no answer means it had no time to.
                has_answered = ray.wait([answer], timeout=_POLL_SECONDS)[0]
                return ray.get(answer) if has_answered else StageFailed("worker_lost", f"Ray Train ended: {end}")
            if asked_at is None and (self._stop.is_set() or silent > _HEAD_STOP_SECONDS):
                if silent:
                    _log.warning("The head node of the cluster does not answer: saving at the end of this step.")
                asked_at = now
                group.ask_to_stop()
            if asked_at is not None and now - asked_at > self._retry.grace_seconds:
                within = f"within retry.grace_seconds {self._retry.grace_seconds:g}"
                return StageFailed("stopped", f"no step ended {within}; what was done since the last save is lost")
            if killed := group.end_hang():
                (hang, found), stacks = killed, f"{self._run_folder}/logs/stacks"
                message = "; ".join(filter(None, [str(hang), found, f"where each worker was: {stacks}"]))
                return StageFailed("hang", message, silent_seconds=hang.seconds)
            has_started = not silent and group.has_started()
            if has_started:
                placed()
            elif not silent and spoke_at == began:
                self._notices.waits_for("the workers to start")
            if silent or has_started:
                waiting_since = spoke_at = began = now
                if larger is None and not silent and now - looked_at > self._grow_seconds:
                    looked_at = now
                    if larger := self._size.larger(group.num_workers):
                        group.ask_to_stop()
            elif now - waiting_since > self._patience_seconds and who_is_waited_for(self._size.workers):
                waiting_since = now  # others hold what it needs: that takes as long as it takes
            elif now - waiting_since > self._patience_seconds:
                return StageFailed("stopped", f"{self._what_is_missing()}, after {self._patience_seconds:.0f} s")
            elif now - began > _SHRINK_SECONDS and group.num_workers > self._size.counts[0] and not group.has_room():
                return None
            elif now - spoke_at > _WARN_SECONDS:
                self._notices.waits_for(missing := self._what_is_missing())
                _log.warning("Waiting: %s", missing)
                spoke_at = now
        placed()
        outcome = ray.get(answer)
        if larger and isinstance(outcome, StageFailed) and outcome.cause == "stopped" and not self._stop.is_set():
            group.leave()
            now_fits = f"{larger} workers fit now, instead of {group.num_workers}"
            return StageFailed("resized", f"{outcome.message}; {now_fits}")
        return outcome

    def _places(self, group: WorkerGroup) -> Callable[[], None]:
        """A function that tells, once for an order, where its workers are."""
        is_told = False

        def tell() -> None:
            nonlocal is_told
            if not is_told:
                is_told = True
                self._notices.waits_for("")
                with contextlib.suppress(RayError):  # the order may be done, and its workers lost right after
                    self._notices.placed(group.hosts())

        return tell

    def _what_is_missing(self) -> str:
        faults = room_faults(self._size.workers, ray.nodes())
        if faults:
            return f"no room on the cluster: {faults[0]}"
        return who_is_waited_for(self._size.workers) or "the workers have not all started"

    def _cluster_lost(self, silent: float) -> StageFailed | None:
        """The failure to report when the head node has been silent too long or this node is dead; else None."""
        if silent > _HEAD_LOST_SECONDS:
            return StageFailed("stopped", f"the head node of the cluster has not answered for {silent:.0f} s")
        if not silent and not node_lives():
            return StageFailed("stopped", "Ray's process on this machine died, and the cluster is out of reach")
        return None
