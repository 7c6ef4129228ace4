"""The runner that carries out orders on a group of Ray workers, which lives longer than a stage.

Ray Train places, starts and monitors the processes. When one is lost or raises, it replaces all of them, so the next
order finds workers without any state. Whether there is a next order is decided by the controller alone.
"""

from __future__ import annotations

import logging
import threading
import time

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from espalier.jobs.job import RetryConfig, WorkersConfig
from espalier.stages.failures import StageFailed
from espalier.stages.orders import StageOrder
from espalier.stages.result import StageResult
from espalier_cluster.group import WorkerGroup
from espalier_cluster.head_node import HeadNode, node_lives
from espalier_cluster.preflight import room_faults

_Outcome = StageResult | StageFailed

_log = logging.getLogger("espalier.cluster")

_POLL_SECONDS = 0.5
_WARN_SECONDS = 30.0
_HEAD_STOP_SECONDS, _HEAD_LOST_SECONDS = 20.0, 40.0  # a head node may restart in between; Ray itself waits for 60


class RayRunner:
    """A `Runner` on the Ray cluster that this process is connected to.

    The workers start with the first order, so a run with nothing left to do starts none.
    """

    def __init__(
        self,
        workers: WorkersConfig,
        run_folder: str,
        *,
        work: str = "espalier.worker.run_stage:serve",
        verbose: bool = False,
        stop: threading.Event | None = None,
        retry: RetryConfig | None = None,
        patience_seconds: float = 600.0,
    ) -> None:
        """Store the settings; starts nothing.

        Args:
            run_folder: absolute, on storage that every node sees. The workers' logs go to `logs` in it.
            work: `module:function`, called on every rank: takes a `StageOrder`, returns a `StageResult`.
            verbose: let Ray forward the workers' output to this terminal instead of writing logs.
            stop: when set, the current order has to end after a step.
            patience_seconds: how long to wait for workers to start, or for nodes while the cluster is too small.
        """
        self._workers = workers
        self._run_folder = run_folder
        self._work = work
        self._verbose = verbose
        self._stop = stop or threading.Event()
        self._retry = retry or RetryConfig()
        self._patience_seconds = patience_seconds
        self._group: WorkerGroup | None = None
        self._head_node = HeadNode()

    def run(self, order: StageOrder) -> StageResult:
        """Carry out one order and wait for its result.

        Raises:
            StageFailed: with its cause. The next order runs on new processes.
        """
        group = self._open_group()
        try:
            outcome = self._await_outcome(group, group.carry_out(order))
        except RayError as error:  # the queue's actor runs on the driver's node: somebody killed it, or the node
            outcome = StageFailed("worker_lost", "The process that hands out the orders died.", str(error))
            group.leave()  # its workers may still be working
        if isinstance(outcome, StageFailed):
            raise outcome
        return outcome

    def close(self) -> None:
        """Let the workers exit, or kill them if they are working. May be called twice."""
        if self._group is not None:
            if not self._head_node.silent_seconds() and node_lives():  # else Ray ends all processes by itself
                self._group.leave()
            self._group = None

    def _open_group(self) -> WorkerGroup:
        if self._group is not None and not self._group.is_open:
            self._group.leave()  # it may still hold resources that the next group needs
            self._group = None
        if self._group is None:
            self._group = WorkerGroup(
                self._workers,
                self._run_folder,
                work=self._work,
                verbose=self._verbose,
                hang_seconds=self._retry.hang_seconds,
            )
        return self._group

    def _await_outcome(self, group: WorkerGroup, answer: ObjectRef[_Outcome]) -> StageResult | StageFailed:
        waiting_since = spoke_at = time.monotonic()
        asked_at: float | None = None
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
            if silent or group.has_started():
                waiting_since = spoke_at = now
            elif now - waiting_since > self._patience_seconds:
                return StageFailed("stopped", f"{self._what_is_missing()}, after {self._patience_seconds:.0f} s")
            elif now - spoke_at > _WARN_SECONDS:
                _log.warning("Waiting: %s", self._what_is_missing())
                spoke_at = now
        return ray.get(answer)

    def _what_is_missing(self) -> str:
        faults = room_faults(self._workers, ray.nodes())
        return f"no room on the cluster: {faults[0]}" if faults else "the workers have not all started"

    def _cluster_lost(self, silent: float) -> StageFailed | None:
        """The failure to report when the head node has been silent too long or this node is dead; else None."""
        if silent > _HEAD_LOST_SECONDS:
            return StageFailed("stopped", f"the head node of the cluster has not answered for {silent:.0f} s")
        if not silent and not node_lives():
            return StageFailed("stopped", "Ray's process on this machine died, and the cluster is out of reach")
        return None
