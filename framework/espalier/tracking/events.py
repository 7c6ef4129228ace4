"""The run's record of events, `events.jsonl`: starts, ends and failures of stages, notes, trouble with trackers."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from espalier.storage.names import StageName, Time
from espalier.tracking import jsonl

EVENTS = Path("records", "events.jsonl")
"""Path of the events in a run's folder."""

EventKind = Literal["started", "resumed", "activity", "gate", "failed", "stopped", "finished", "mirror", "note"]

_ACTIVITY_SECONDS = 1.0


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        kind: `activity`: what a stage without steps is doing; `gate`: a measured value left its bounds;
            `stopped`: a user, a preemption or a change of the number of workers stopped the stage, which is saved;
            `note`: something that explains the run later, such as a changed setting;
            `mirror`: a tracker has failed, which does not affect the run.
        stage: the stage's name; empty when the event concerns the whole run.
        time: unix seconds.
        message: for a person.
    """

    kind: EventKind
    stage: StageName | Literal[""]
    time: Time
    message: str = ""


class EventLog:
    """Appends events. Several processes may do so at once: each line is a single write at the file's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._activity_time = 0.0
        jsonl.prepare(path)

    def add(self, kind: EventKind, stage: str, message: str = "") -> None:
        """Append one event. An activity within a second of the last one is dropped."""
        now = time.time()
        if kind == "activity":
            if now - self._activity_time < _ACTIVITY_SECONDS:
                return
            self._activity_time = now
        jsonl.append(self._path, asdict(Event(kind, stage, now, message)))


def read_events(path: Path) -> list[Event]:
    """Every completely written event, in order; empty when there is no file."""
    return jsonl.read_as(path, Event)
