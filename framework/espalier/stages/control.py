"""Between the work of one worker and whoever watches over its process."""

from __future__ import annotations

import statistics
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass

_KEPT, _FEWEST = 64, 5  # durations of a phase that its usual one is taken from
_UNKNOWN_SECONDS = 1800.0


@dataclass(frozen=True)
class Pulse:
    """A sign of life.

    Attributes:
        phase: what the work is at.
        seconds: for how long, so far.
        usual_seconds: median of this phase's durations; None while too few are known.
    """

    phase: str
    seconds: float
    usual_seconds: float | None

    def bound_seconds(self, *, least: float) -> float:
        """How long this phase may take before something must be wrong: ten times the usual, at least `least`."""
        return max(least, _UNKNOWN_SECONDS if self.usual_seconds is None else 10 * self.usual_seconds)


class Control:
    """Wishes go in, signs of life come out. One per process; any thread may use it.

    Attributes:
        stop: set when the run is to stop at the end of a step.
        preempted: set when this process's machine is going to be taken away.
        num_steps: updates taken under the order that is being carried out; only the thread at work writes it.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self.preempted = threading.Event()
        self.num_steps = 0
        self._phase, self._since = "starting", time.monotonic()
        self._durations: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def beat(self, phase: str) -> None:
        """What was done until now is done; from here on the work is at `phase`."""
        now = time.monotonic()
        self._durations[self._phase].append(now - self._since)
        self._phase, self._since = phase, now

    def alive(self) -> None:
        """The work is still at its phase and gets on; how long such a phase usually takes is not told by it."""
        self._since = time.monotonic()

    def pulse(self) -> Pulse:
        """How the work is getting on."""
        known = list(self._durations[self._phase]) if self._phase in self._durations else []
        usual = statistics.median(known) if len(known) >= _FEWEST else None
        return Pulse(self._phase, time.monotonic() - self._since, usual)
