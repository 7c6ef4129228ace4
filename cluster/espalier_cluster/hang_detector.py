"""Tell a hang from a slow step, by the heartbeats of the workers."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.stages.heartbeats import HeartbeatSchedule, Pulse


@dataclass(frozen=True)
class Hang:
    """Every worker has been in its phase for longer than the phase's bound.

    Attributes:
        seconds: since the last progress of any worker.
        phases: rank -> the phase that the worker is in.
        silent: ranks that send no heartbeat: stopped, or in a call that lets no other thread run.
    """

    seconds: float
    phases: dict[int, str]
    silent: tuple[int, ...]

    def __str__(self) -> str:
        phases = ", ".join(f"worker {rank} in {phase}" for rank, phase in sorted(self.phases.items())[:8])
        silent = f"; no sign of life from {', '.join(map(str, self.silent[:8]))}" if self.silent else ""
        return f"no worker got on for {self.seconds:.0f} s ({phases}{silent})"


class HangDetector:
    """Decides from heartbeats whether one worker group hangs. Callers pass the time (seconds of one clock).

    Workers wait for each other in collectives, so one that hangs soon blocks all: the group hangs when every worker is
    past the bound of its phase. One slow step, a compilation or a long save of a single worker is no hang. A worker
    without heartbeats counts as stuck, but at least one other must be overdue: a long call may hold the interpreter.

    Whether a worker is overdue is what its last heartbeat says: in a large group most are old, and a worker that has
    become overdue since, or has got on, has sent another (`HeartbeatSchedule`).
    """

    def __init__(self, num_workers: int, *, least_seconds: float) -> None:
        self._num_workers, self._least_seconds = num_workers, least_seconds
        self._started: dict[int, float] = {}
        self._heartbeats: dict[int, tuple[Pulse, float]] = {}
        self._began = 0.0

    def begin(self, now: float) -> None:
        """Start a new order: forget the heartbeats of the earlier one."""
        self._heartbeats.clear()
        self._began = now

    def worker_started(self, rank: int, now: float) -> None:
        """Record that a worker has started, so that its heartbeats are expected."""
        self._started[rank] = now

    def record_heartbeat(self, rank: int, pulse: Pulse, now: float) -> None:
        """Record a worker's heartbeat."""
        self._heartbeats[rank] = (pulse, now)

    def hang(self, now: float) -> Hang | None:
        """The hang, if every worker is overdue or silent; None while any of them makes progress."""
        if len(self._started) < self._num_workers:
            return None
        ages = {
            rank: pulse.seconds + now - at
            for rank, (pulse, at) in self._heartbeats.items()
            if pulse.is_overdue(least=self._least_seconds)
        }
        if not ages:
            return None
        silent = {rank for rank in self._started if self._is_silent(rank, now)}
        if len(ages.keys() | silent) < self._num_workers:
            return None
        phases = {rank: self._phase(rank) for rank in self._started}
        return Hang(min(ages.values()), phases, tuple(sorted(silent)))

    def schedule(self, rank: int) -> HeartbeatSchedule:
        """When a worker has to send its heartbeats."""
        return HeartbeatSchedule.of(rank, num_workers=self._num_workers, least_seconds=self._least_seconds)

    def _phase(self, rank: int) -> str:
        return self._heartbeats[rank][0].phase if rank in self._heartbeats else "its start"

    def _is_silent(self, rank: int, now: float) -> bool:
        last = self._heartbeats[rank][1] if rank in self._heartbeats else max(self._began, self._started[rank])
        return now - last > self.schedule(rank).silent_seconds
