"""The time log: which state a run is in from when on, written by the driver and by rank zero."""

from __future__ import annotations

import time as clock
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from espalier.storage.names import Count, StageName, Time
from espalier.tracking import jsonl
from espalier.tracking.events import EVENTS, Event
from espalier.tracking.record import STEPS, StepRecord

TIME = Path("records", "time.jsonl")
"""Path of the time log in a run's folder."""

TimeState = Literal["waiting", "working", "saving", "restarting", "hanging", "stopped"]


@dataclass(frozen=True)
class TimeEntry:
    """The run enters `state` at `time` and stays in it until the next entry.

    Attributes:
        time: unix seconds.
        state: `waiting`: the driver has started or has given an order, and no stage works yet; `working`: a stage
            works; `saving`: its steps wait for a save; `restarting`: an attempt has failed; `hanging`: no worker
            made progress; `stopped`: the driver has ended.
        stage: the stage's name; empty when the entry concerns the whole run.
        step: updates of the stage that are done at `time`.
    """

    time: Time
    state: TimeState
    stage: StageName | Literal[""] = ""
    step: Count = 0


class TimeLog:
    """Appends entries. Several processes may do so at once: each line is a single write at the file's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        jsonl.prepare(path)

    def record(self, state: TimeState, stage: str = "", step: int = 0, time: float | None = None) -> None:
        """Append one entry.

        Args:
            time: unix seconds at which the state began, when it was noticed later, as a hang is; default now.
        """
        began = clock.time() if time is None else time
        jsonl.append(self._path, asdict(TimeEntry(began, state, stage, step)))


def read_time_log(path: Path) -> list[TimeEntry]:
    """Every completely written entry, sorted by time; empty when there is no file."""
    return sorted(jsonl.read_as(path, TimeEntry), key=lambda entry: entry.time)


def end_killed_driver(run_folder: Path) -> None:
    """Append the `stopped` entry that a killed driver could not write, at the time of the last record of the run.

    Called before a new driver's first entry: otherwise the time until then would count as the last state's.
    """
    entries = sorted(jsonl.read_known(run_folder / TIME, TimeEntry), key=lambda entry: entry.time)
    if entries and entries[-1].state != "stopped":
        events = jsonl.read_known(run_folder / EVENTS, Event)
        steps = jsonl.read_known(run_folder / STEPS, StepRecord)
        times = [entries[-1].time, *(event.time for event in events), *(step.time for step in steps)]
        TimeLog(run_folder / TIME).record("stopped", time=max(times))
