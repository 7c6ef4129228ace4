"""All that a person asks of one run, read from its folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import load_manifest
from espalier.checkpoint.places import state_storage
from espalier.checkpoint.steps import newest_step, stage_folder, step_folder
from espalier.config.faults import RefusedInput
from espalier.stages.files import PlanEntry
from espalier.stages.run_folder import RunFolder
from espalier.status.next_step import next_step
from espalier.status.progress import StageProgress, read_progress
from espalier.status.run_list import RunLine, read_seeds
from espalier.status.standing import Standing, read_standing
from espalier.storage.contract import Storage
from espalier.storage.local import LocalStorage
from espalier.tracking import jsonl
from espalier.tracking.attempts import ATTEMPTS, Attempt, read_attempts
from espalier.tracking.goodput import Goodput, measure_goodput
from espalier.tracking.links import read_links
from espalier.tracking.time_log import TIME, TimeEntry

_RECORD_BYTES = 2**18
_TIME_BYTES = 2**24
_STORE_SECONDS = 15.0
KILLED = "its driver was killed"
"""Message of an attempt whose driver wrote no end."""

_NO_FAILURES = ("done", "gate_failed", "preempted", "resized", "stopped", None)


@dataclass(frozen=True)
class LastCheckpoint:
    """The newest committed checkpoint.

    Attributes:
        age_seconds: since it was made, by its writer's clock; None where its manifest cannot be read.
        num_workers: that wrote it; 0 where that is not known.
    """

    stage: str
    step: int
    age_seconds: float | None = None
    num_workers: int = 0


@dataclass(frozen=True)
class RunStatus:
    """The status of one run.

    Attributes:
        attempts: in order.
        num_failures: attempts that ended in a failure or with a driver that was killed.
        num_preemptions: attempts that ended because a machine was taken away.
        hosts: of the workers of the last attempt: host -> number.
        seeds: the runs of a job with several seeds.
        links: tracker -> address of the run's page.
        goodput: of the time log, up to now while the run goes on.
        next_step: a command, or a sentence where there is none.
        notes: what could not be read, and clocks that differ.
    """

    folder: RunFolder
    standing: Standing
    stage: StageProgress
    checkpoint: LastCheckpoint | None = None
    attempts: tuple[Attempt, ...] = ()
    num_failures: int = 0
    num_preemptions: int = 0
    hosts: Mapping[str, int] | None = None
    seeds: tuple[RunLine, ...] = ()
    links: Mapping[str, str] | None = None
    goodput: Goodput | None = None
    next_step: str = ""
    notes: tuple[str, ...] = ()


def read_status(folder: RunFolder, *, now: float | None = None, watch: Callable[[], bool] = lambda: False) -> RunStatus:
    """Everything that is known of a run.

    Args:
        now, watch: see `read_standing`.

    Raises:
        RefusedInput: the plan or a result is not as espalier writes it.
    """
    standing = read_standing(folder, now=now, watch=watch)
    now = time.time() if now is None else now
    entries, seeds = folder.plan(), read_seeds(folder, now=now)
    done = _num_done(folder, entries)
    progress = read_progress(folder, entries, _stage(folder, entries, standing), now=now, max_bytes=_RECORD_BYTES)
    attempts = _with_ends(read_attempts(folder.path / ATTEMPTS), standing)
    checkpoint, trouble = _last_checkpoint(folder, entries, progress.name, now=now)
    return RunStatus(
        folder=folder,
        standing=standing,
        stage=replace(progress, num_done=done),
        checkpoint=checkpoint,
        attempts=tuple(attempts),
        num_failures=sum(attempt.end not in _NO_FAILURES or attempt.message == KILLED for attempt in attempts),
        num_preemptions=sum(attempt.end == "preempted" for attempt in attempts),
        hosts=next((attempt.hosts for attempt in reversed(attempts) if attempt.hosts), None),
        seeds=seeds,
        links=read_links(folder),
        goodput=_goodput(folder, standing, now=now),
        next_step=next_step(folder, standing),
        notes=(*standing.notes, *trouble),
    )


def _stage(folder: RunFolder, entries: Sequence[PlanEntry], standing: Standing) -> str:
    """The stage that the driver is at; of a run that has ended the first one without a result, or the last one."""
    if standing.driver is not None and standing.goes_on and standing.driver.exit_code is None:
        return standing.driver.stage or next((entry.name for entry in entries), "")
    for entry in entries:
        result = folder.result(entry.name)
        if result is None or result.key != entry.key or result.status == "gate_failed":
            return entry.name
    return entries[-1].name if entries else ""


def _num_done(folder: RunFolder, entries: Sequence[PlanEntry]) -> int:
    results = folder.results(entry.name for entry in entries)
    return sum(
        (found := results.get(entry.name)) is not None and found.key == entry.key and found.status == "done"
        for entry in entries
    )


def _with_ends(attempts: Sequence[Attempt], standing: Standing) -> list[Attempt]:
    """The attempts, those of drivers that were killed with that as their message."""
    under_way = standing.driver.attempt if standing.driver and standing.goes_on else 0
    return [
        attempt
        if attempt.ended is not None or attempt.number == under_way
        else replace(attempt, message=attempt.message or KILLED)
        for attempt in attempts
    ]


def _last_checkpoint(
    folder: RunFolder, entries: Sequence[PlanEntry], stage: str, *, now: float
) -> tuple[LastCheckpoint | None, tuple[str, ...]]:
    """The newest checkpoint of the stage or of one before it, and what kept it from being read.

    A store that does not answer is given up after a while: the status of a run must not hang on it.
    """
    names = [entry.name for entry in entries]
    names = names[: names.index(stage) + 1] if stage in names else names
    found: list[LastCheckpoint | None] = []
    trouble = [f"the storage of the checkpoints did not answer within {_STORE_SECONDS:.0f} s"]

    def ask() -> None:
        try:
            found.append(_newest(_states(folder), names, now=now))
        except Exception as error:  # whatever a store's library raises
            trouble[0] = f"the checkpoints cannot be read: {type(error).__name__}: {error}"[:500]

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_STORE_SECONDS)
    return (found[0], ()) if found else (None, tuple(trouble))


def _states(folder: RunFolder) -> Storage:
    try:
        job = folder.read_job()
    except (FileNotFoundError, RefusedInput):
        return LocalStorage(folder.path)
    return state_storage(folder.path, job)


def _newest(storage: Storage, stages: Sequence[str], *, now: float) -> LastCheckpoint | None:
    for stage in reversed(stages):
        if step := newest_step(storage, stage_folder(stage)):
            try:
                origin = load_manifest(storage, step_folder(stage, step)).origin
            except (DamagedCheckpoint, OSError):
                return LastCheckpoint(stage, step)
            made = origin.created_unix_seconds
            return LastCheckpoint(stage, step, now - made if made else None, origin.world_size)
    return None


def _goodput(folder: RunFolder, standing: Standing, *, now: float) -> Goodput | None:
    """Up to now while the run goes on, else up to the last entry or the driver's last sign."""
    entries = jsonl.read_last(folder.path / TIME, TimeEntry, max_bytes=_TIME_BYTES)
    if not entries:
        return None
    entries.sort(key=lambda entry: entry.time)
    beat = standing.driver.beat if standing.driver else 0.0
    end = now if standing.goes_on else min(now, max(beat, entries[-1].time))
    return measure_goodput(entries, now=end)
