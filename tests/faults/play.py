"""Runs that are killed a few times, finished, and held against the undisturbed one."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from faults.attempt import attempt
from faults.draws import Target
from faults.ground import NAME, Ground, write_down
from faults.outcome import differences, outcome

_MISSES = 8


@dataclass(frozen=True)
class Kill:
    """One that was made.

    Attributes:
        where: the call at which the rank ended.
        seconds: of the attempt that it ended.
    """

    target: Target
    where: str
    seconds: float


@dataclass(frozen=True)
class Played:
    """What came of the kills of one run.

    Attributes:
        faults: what differs from the undisturbed run, or why a run did not end; none when all is equal.
        folder: kept where there are faults.
    """

    kills: tuple[Kill, ...]
    faults: tuple[str, ...]
    folder: Path
    seconds: float


def play(ground: Ground, targets: list[Target], folder: Path, *, in_background: bool) -> list[Played]:
    """Make all these kills, in as many runs as it takes: one whose moment a run has passed falls to the next run."""
    played: list[Played] = []
    left, misses = list(targets), 0
    while left:
        one = _play_run(ground, left, folder.with_name(f"{folder.name}-{len(played)}"), in_background=in_background)
        played.append(one)
        left = left[len(one.kills) :]
        if one.faults:
            break
        if not one.kills:
            misses += 1
            assert misses < _MISSES, f"no run comes to {left[0]}"
            left[0] = left[0].sooner()
    return played


def _play_run(ground: Ground, targets: list[Target], folder: Path, *, in_background: bool) -> Played:
    began, run = time.monotonic(), folder / NAME
    plan = write_down(ground.folder, run, ground.level, in_background=in_background)
    kills: list[Kill] = []
    while True:
        started = time.monotonic()
        target = targets[len(kills)] if len(kills) < len(targets) else None
        end = attempt(run, plan, target and target.shot(ground.counts))
        if end.end != "killed":
            break
        assert target is not None
        kills.append(Kill(target, end.text, time.monotonic() - started))
    faults = [end.text] if end.end == "failed" else differences(ground.expected, outcome(run))
    if not faults:
        shutil.rmtree(folder)
    return Played(tuple(kills), tuple(faults), folder, time.monotonic() - began)
