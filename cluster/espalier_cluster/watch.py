"""Telling a hang from a long step, from what the workers say and from their silence."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.stages.control import Pulse


@dataclass(frozen=True)
class Hang:
    """Every worker is at the same piece of work for much too long.

    Attributes:
        seconds: since anybody got on.
        phases: what each worker was at, by rank.
        silent: workers that give no sign of life any more: stopped, or in a call that lets no thread run.
    """

    seconds: float
    phases: dict[int, str]
    silent: tuple[int, ...]

    def __str__(self) -> str:
        phases = ", ".join(f"worker {rank} in {phase}" for rank, phase in sorted(self.phases.items())[:8])
        silent = f"; no sign of life from {', '.join(map(str, self.silent[:8]))}" if self.silent else ""
        return f"no worker got on for {self.seconds:.0f} s ({phases}{silent})"


class Watch:
    """Of one worker group. All times are one clock's, in seconds, and given: nothing in here waits.

    Workers wait for each other in collectives, so one that hangs soon holds all: the run hangs when every worker is
    past the bound of its phase. One slow step, a compilation or a long save of a single worker is no hang. A worker
    that gives no sign of life counts as stuck too, but not by itself: a long call may hold the interpreter.
    """

    def __init__(self, num_workers: int, *, least_seconds: float) -> None:
        self._num_workers, self._least_seconds = num_workers, least_seconds
        self._started: dict[int, float] = {}
        self._heard: dict[int, tuple[Pulse, float]] = {}
        self._began = 0.0

    def begin(self, now: float) -> None:
        """An order is given: what was heard before is about an earlier one."""
        self._heard.clear()
        self._began = now

    def worker_started(self, rank: int, now: float) -> None:
        """A worker has started and will give signs of life from here on."""
        self._started[rank] = now

    def hear(self, rank: int, pulse: Pulse, now: float) -> None:
        """A worker's sign of life has come."""
        self._heard[rank] = (pulse, now)

    def hang(self, now: float) -> Hang | None:
        """Whether nobody gets on any more."""
        if len(self._started) < self._num_workers:
            return None
        ages = {rank: pulse.seconds + now - at for rank, (pulse, at) in self._heard.items()}
        overdue = {rank for rank, (pulse, _) in self._heard.items() if ages[rank] > self._bound(pulse)}
        silent = {rank for rank in self._started if now - self._last_sign(rank) > self._least_seconds}
        if not overdue or len(overdue | silent) < self._num_workers:
            return None
        phases = {rank: self._heard[rank][0].phase if rank in self._heard else "its start" for rank in self._started}
        return Hang(min(ages[rank] for rank in overdue), phases, tuple(sorted(silent)))

    def _bound(self, pulse: Pulse) -> float:
        return pulse.bound_seconds(least=self._least_seconds)

    def _last_sign(self, rank: int) -> float:
        return self._heard[rank][1] if rank in self._heard else max(self._began, self._started[rank])
