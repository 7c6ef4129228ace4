"""What happened to the stages of a run, and when."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from espalier.storage.names import StageName, Time
from espalier.tracking import jsonl

EVENTS = Path("records", "events.jsonl")
"""Where the events lie in a run's folder."""

EventKind = Literal["started", "resumed", "activity", "gate", "failed", "stopped", "finished", "mirror", "note"]

_ACTIVITY_SECONDS = 1.0


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: `activity` is what a stage without steps is at; `gate`: a measured value left its bounds;
            `stopped`: somebody asked for it, or a machine was taken away, and the stage is saved;
            `note`: something that somebody will ask about later;
            `mirror`: a tracker cannot be reached, which changes nothing for the run.
        stage: the stage's name; empty when it concerns the whole run.
        time: unix seconds.
        message: for a person.
    """

    kind: EventKind
    stage: StageName | Literal[""]
    time: Time
    message: str = ""


class EventLog:
    """Adds events. Several processes may: each line is a single write at the file's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._activity_time = 0.0
        jsonl.prepare(path)

    def add(self, kind: EventKind, stage: str, message: str = "") -> None:
        """Write one event. Activities that follow one another within a second are left out."""
        now = time.time()
        if kind == "activity":
            if now - self._activity_time < _ACTIVITY_SECONDS:
                return
            self._activity_time = now
        jsonl.append(self._path, asdict(Event(kind, stage, now, message)))


def read_events(path: Path) -> list[Event]:
    """Every event that is wholly on disk, in order; none when there is no file."""
    return jsonl.read_as(path, Event)
