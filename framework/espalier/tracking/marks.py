"""What the run's time went into, marked at every change by whichever process sees it."""

from __future__ import annotations

import time as clock
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

from espalier.storage.names import Count, StageName, Time
from espalier.tracking import lines
from espalier.tracking.events import EVENTS, Event
from espalier.tracking.record import STEPS, StepRecord

TIME = Path("records", "time.jsonl")
"""Where the marks lie in a run's folder."""

TimeState = Literal["waiting", "working", "saving", "restarting", "hanging", "stopped"]


@dataclass(frozen=True)
class Mark:
    """From `time` on the run is in `state`, until the next mark.

    Attributes:
        time: unix seconds.
        state: `waiting`: the driver has begun or has given an order, and nothing useful runs yet; `working`: a
            stage works; `saving`: its steps wait for a save; `restarting`: an attempt has failed; `hanging`:
            nothing progressed; `stopped`: the driver has ended.
        stage: the stage's name; empty when it concerns the whole run.
        step: updates of the stage that are done at that moment.
    """

    time: Time
    state: TimeState
    stage: StageName | Literal[""] = ""
    step: Count = 0


class TimeLog:
    """Adds marks. Several processes may: each line is a single write at the file's end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines.prepare(path)

    def mark(self, state: TimeState, stage: str = "", step: int = 0, time: float | None = None) -> None:
        """Write one mark.

        Args:
            time: when the state began, in unix seconds, where that was noticed late, as a hang is; else now.
        """
        began = clock.time() if time is None else time
        lines.append(self._path, asdict(Mark(began, state, stage, step)))


def read_marks(path: Path) -> list[Mark]:
    """Every mark that is wholly on disk, by time; none when there is no file."""
    return sorted(lines.read_as(path, Mark), key=lambda mark: mark.time)


def end_killed_driver(run_folder: Path) -> None:
    """Mark the end of a driver that could not, at the last thing that the run told: before a new one's first mark.

    Without it the time until the new start would count as what the run was last at.
    """
    marks = sorted(lines.read_known(run_folder / TIME, Mark), key=lambda mark: mark.time)
    if marks and marks[-1].state != "stopped":
        known = (lines.read_known(run_folder / EVENTS, Event), lines.read_known(run_folder / STEPS, StepRecord))
        told = [*marks, *chain(*known)]
        TimeLog(run_folder / TIME).mark("stopped", time=max(one.time for one in told))
