"""Heartbeats and stop requests, shared by the thread of a worker that works and the one that talks to the driver."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass

_KEPT, _FEWEST = 64, 5  # durations of a phase: how many are kept, and how many a median needs
_UNKNOWN_SECONDS = 1800.0


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
