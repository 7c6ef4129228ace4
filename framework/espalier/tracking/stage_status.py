"""The status of each stage of a run, computed from its events and steps; independent of any display."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from espalier.tracking.events import Event
from espalier.tracking.follow import News
from espalier.tracking.record import StepRecord

StageState = Literal["waiting", "running", "stopped", "done", "failed"]

_RECENT_STEPS = 20
_ENDS: dict[str, StageState] = {"finished": "done", "failed": "failed", "stopped": "stopped"}


@dataclass
class StageStatus:
    """The status of one stage.

    Attributes:
        started: unix seconds of the first start; None before it.
        ended: unix seconds; None while the stage is running.
        message: of the last event: an activity, a failed gate, a cause of failure.
        last: the latest step; None before the first and for stages without steps.
        recent_seconds: durations of the latest steps.
    """

    name: str
    state: StageState = "waiting"
    started: float | None = None
    ended: float | None = None
    message: str = ""
    last: StepRecord | None = None
    recent_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_STEPS))

    def elapsed_seconds(self, now: float) -> float:
        """Seconds from the stage's start to its end, or to `now` while it is running."""
        return 0.0 if self.started is None else max(0.0, (self.ended or now) - self.started)

    def remaining_seconds(self) -> float | None:
        """Expected seconds of the remaining steps, from the mean of the latest ones; None before the first step."""
        if self.last is None or not self.recent_seconds:
            return None
        pace = sum(self.recent_seconds) / len(self.recent_seconds)
        return pace * (self.last.num_steps - self.last.step)

    def apply_event(self, event: Event) -> None:
        """Update state, times and message."""
        if event.kind in ("started", "resumed"):
            self.state, self.ended, self.message = "running", None, event.message
            self.started = event.time if self.started is None else self.started
        elif event.kind in _ENDS:
            self.state = _ENDS[event.kind]
            self.ended = event.time
            self.message = event.message or (self.message if self.state == "failed" else "")
        else:
            self.message = event.message

    def apply_step(self, step: StepRecord) -> None:
        """Update the latest step; it replaces the message of an activity."""
        self.last = step
        self.message = ""
        self.recent_seconds.append(step.step_seconds)


class StageStatuses:
    """The status of every stage of a plan, in the plan's order, and messages that concern the whole run."""

    def __init__(self, stages: Iterable[str]) -> None:
        self.by_stage = {name: StageStatus(name) for name in stages}
        self.notices: list[str] = []

    def apply(self, news: News) -> None:
        """Update the statuses, in order of time. A stage that is not in the plan is added after the others."""
        records: list[Event | StepRecord] = [*news.events, *news.steps]
        for record in sorted(records, key=lambda record: record.time):
            if isinstance(record, Event) and not record.stage:
                self.notices.append(record.message)
                continue
            status = self.by_stage.setdefault(record.stage, StageStatus(record.stage))
            if isinstance(record, Event):
                status.apply_event(record)
            else:
                status.apply_step(record)
