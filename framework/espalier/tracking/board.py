"""Where each stage of a run stands, folded from the news. No terminal here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from espalier.tracking.events import Event
from espalier.tracking.follow import News
from espalier.tracking.record import StepRecord

State = Literal["waiting", "running", "stopped", "done", "failed"]

_RECENT_STEPS = 20
_ENDS: dict[str, State] = {"finished": "done", "failed": "failed", "stopped": "stopped"}


@dataclass
class Row:
    """One stage.

    Attributes:
        message: what the last event said: an activity, a failed gate, a cause.
        last: the latest step; None before the first and for stages without steps.
        recent_seconds: times of the latest steps.
    """

    name: str
    state: State = "waiting"
    started: float | None = None
    ended: float | None = None
    message: str = ""
    last: StepRecord | None = None
    recent_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT_STEPS))

    def elapsed_seconds(self, now: float) -> float:
        """Since the stage started, until it ended."""
        return 0.0 if self.started is None else max(0.0, (self.ended or now) - self.started)

    def remaining_seconds(self) -> float | None:
        """Of the steps that are left, at the pace of the latest ones; None when there is no pace yet."""
        if self.last is None or not self.recent_seconds:
            return None
        pace = sum(self.recent_seconds) / len(self.recent_seconds)
        return pace * (self.last.num_steps - self.last.step)

    def take_event(self, event: Event) -> None:
        if event.kind in ("started", "resumed"):
            self.state, self.ended, self.message = "running", None, event.message
            self.started = event.time if self.started is None else self.started
        elif event.kind in _ENDS:
            self.state = _ENDS[event.kind]
            self.ended = event.time
            self.message = event.message or (self.message if self.state == "failed" else "")
        else:
            self.message = event.message

    def take_step(self, step: StepRecord) -> None:
        self.last = step
        self.message = ""
        self.recent_seconds.append(step.step_seconds)


class Board:
    """The stages of a plan, in its order."""

    def __init__(self, stages: Iterable[str]) -> None:
        self.rows = {name: Row(name) for name in stages}
        self.notices: list[str] = []

    def take(self, news: News) -> None:
        """Fold news in. A stage that the plan does not have is shown after the others."""
        for happened in sorted([*news.events, *news.steps], key=lambda happened: happened.time):
            if isinstance(happened, Event) and not happened.stage:
                self.notices.append(happened.message)
                continue
            row = self.rows.setdefault(happened.stage, Row(happened.stage))
            if isinstance(happened, Event):
                row.take_event(happened)
            else:
                row.take_step(happened)
