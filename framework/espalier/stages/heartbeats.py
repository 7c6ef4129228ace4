"""Heartbeats and stop requests, shared by the thread of a worker that works and the one that talks to the driver."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass

_KEPT, _FEWEST = 64, 5  # durations of a phase: how many are kept, and how many a median needs
_UNKNOWN_SECONDS = 1800.0

LOOK_SECONDS = 0.5
"""How often a worker looks whether it has to send a heartbeat."""
_HEARTBEATS_A_SECOND = 64  # of a whole group at most, as one process takes them all


@dataclass(frozen=True)
class Pulse:
    """The content of a heartbeat.

    Attributes:
        phase: what the worker is doing, such as `step` or `save`.
        seconds: since the phase began.
        usual_seconds: median of the phase's durations so far; None while too few are known.
    """

    phase: str
    seconds: float
    usual_seconds: float | None

    def bound_seconds(self, *, least: float) -> float:
        """How long the phase may take before it counts as a hang: ten times its usual duration, at least `least`."""
        return max(least, _UNKNOWN_SECONDS if self.usual_seconds is None else 10 * self.usual_seconds)

    def is_overdue(self, *, least: float) -> bool:
        """Whether the phase has lasted longer than `bound_seconds`."""
        return self.seconds > self.bound_seconds(least=least)


@dataclass(frozen=True)
class HeartbeatSchedule:
    """When a worker sends a heartbeat: every `every_seconds`, and at once when it becomes overdue or no longer is.

    So whether a worker is overdue is known within `LOOK_SECONDS`, however rarely it sends.

    Attributes:
        every_seconds: grows with the number of workers. Rank zero's does not, as its heartbeats bring the wish to stop.
        first_seconds: until the first one, so that those of a group are spread over time.
        least_seconds: as in `Pulse.bound_seconds`.
    """

    every_seconds: float
    first_seconds: float
    least_seconds: float

    @staticmethod
    def of(rank: int, *, num_workers: int, least_seconds: float) -> HeartbeatSchedule:
        """The schedule of one worker of a group."""
        every = max(LOOK_SECONDS, num_workers / _HEARTBEATS_A_SECOND) if rank else LOOK_SECONDS
        return HeartbeatSchedule(every, every * rank / num_workers, least_seconds)

    @property
    def silent_seconds(self) -> float:
        """Without a heartbeat for so long, a worker has stopped or is in a call that lets no other thread run."""
        return self.every_seconds + self.least_seconds


class HeartbeatTimer:
    """Decides when one worker sends its next heartbeat. Callers pass the time (seconds of one clock)."""

    def __init__(self, schedule: HeartbeatSchedule, now: float) -> None:
        self._schedule = schedule
        self._due_at = now + schedule.first_seconds
        self._was_overdue = False

    def is_due(self, pulse: Pulse, now: float) -> bool:
        """Whether to send this pulse; if so, it counts as sent."""
        is_overdue = pulse.is_overdue(least=self._schedule.least_seconds)
        if now < self._due_at and is_overdue == self._was_overdue:
            return False
        self._due_at, self._was_overdue = now + self._schedule.every_seconds, is_overdue
        return True


class Control:
    """Takes stop requests in and gives heartbeats out. One per process; any thread may use it.

    Attributes:
        stop: set when the run has to stop at the end of a step.
        preempted: set when this process's machine is about to be taken away.
        num_steps: updates taken under the current order; written by the working thread only.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self.preempted = threading.Event()
        self.num_steps = 0
        self._phase, self._since = "starting", time.monotonic()
        self._durations: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def beat(self, phase: str) -> None:
        """End the current phase, record its duration, and begin `phase`."""
        now = time.monotonic()
        self._durations[self._phase].append(now - self._since)
        self._phase, self._since = phase, now

    def alive(self) -> None:
        """Report progress within the current phase: its clock restarts, and no duration is recorded."""
        self._since = time.monotonic()

    def pulse(self) -> Pulse:
        """The current phase and how long it has lasted."""
        known = list(self._durations[self._phase]) if self._phase in self._durations else []
        usual = statistics.median(known) if len(known) >= _FEWEST else None
        return Pulse(self._phase, time.monotonic() - self._since, usual)
