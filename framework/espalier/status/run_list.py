"""A line for each run of a storage, from a few small reads each."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.status.progress import StageProgress, read_progress
from espalier.status.standing import RunState, Standing, read_standing
from espalier.tracking.time_log import TIME

_RECORD_BYTES = 2**14
_AT_ONCE = 16


@dataclass(frozen=True)
class RunLine:
    """One run.

    Attributes:
        heard: when it was last heard of, in unix seconds: a heartbeat, an end, a submission; None when never.
        began: when its last driver started, or its submission was made; None when that is not known.
        reason: why it ended, or cannot be read; while it waits: for what.
    """

    name: str
    folder: Path
    state: RunState
    stage: StageProgress | None = None
    heard: float | None = None
    began: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class StorageContent:
    """The runs of a storage, those heard of last first, and the names of folders that no run has made."""

    runs: tuple[RunLine, ...]
    strangers: tuple[str, ...]


def list_runs(storage: Path, *, now: float | None = None) -> StorageContent:
    """All runs of a storage. A run that cannot be read has a line in state `unreadable`.

    Raises:
        OSError: the storage itself cannot be read.
    """
    now = time.time() if now is None else now
    runs, strangers = [], []
    names = _folders(storage)
    with ThreadPoolExecutor(_AT_ONCE) as readers:  # a network file system takes its time for each file
        lines = list(readers.map(lambda name: _line(storage / name, now=now), names))
    for name, line in zip(names, lines, strict=True):
        if line is None:
            strangers.append(name)
        else:
            runs.append(line)
    runs.sort(key=lambda line: line.heard or 0.0, reverse=True)
    return StorageContent(tuple(runs), tuple(strangers))


def read_seeds(folder: RunFolder, *, now: float) -> tuple[RunLine, ...]:
    """The runs of the seeds of a job, in order of their names; empty for a run of its own."""
    prefix = f"{folder.path.name}-seed-"
    names = [name for name in _folders(folder.path) if name.startswith(prefix)]
    lines = (_line(folder.path / name, now=now) for name in names)
    return tuple(line for line in lines if line is not None)


def _folders(storage: Path) -> list[str]:
    """The folders that may be runs, by name; hidden ones hold caches."""
    with os.scandir(storage) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _line(path: Path, *, now: float) -> RunLine | None:
    """None for a folder that no run has made."""
    folder = RunFolder(path)
    try:
        if "espalier" not in folder.ids().get("versions", {}):
            return None
        standing = read_standing(folder, now=now)
        entries = folder.plan()
        stage = standing.driver.stage if standing.driver else ""
        progress = read_progress(folder, entries, stage, now=now, max_bytes=_RECORD_BYTES, steps_only=True)
    except (RefusedInput, OSError) as error:
        reason = str(error.faults[0]) if isinstance(error, RefusedInput) else str(error)
        return RunLine(path.name, path, "unreadable", reason=reason)
    told = standing.reason if not standing.goes_on else standing.waits_for
    heard = _heard(standing, folder, now=now)
    return RunLine(path.name, path, standing.state, progress, heard, _began(standing), told)


def _heard(standing: Standing, folder: RunFolder, *, now: float) -> float | None:
    if standing.sign is not None:
        return now - standing.sign.age_seconds
    driver, submission = standing.driver, standing.submission
    times = [driver.beat if driver else None, submission.submitted if submission else None]
    known = [time for time in times if time is not None]
    if known:
        return max(known)
    try:
        return (folder.path / TIME).stat().st_mtime  # of an espalier that wrote no heartbeats
    except OSError:
        return None


def _began(standing: Standing) -> float | None:
    if standing.submission is not None and standing.is_newly_submitted:
        return standing.submission.submitted
    return None if standing.driver is None else standing.driver.started
