"""Send a run's record to one tracker, each step and epoch once, however often the run stops and resumes.

What is sent depends on the record and on the tracker's position alone: a new mirror sends what the tracker lacks. Only
the driver does this; workers never talk to a tracker.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from espalier.config.base import Config
from espalier.config.plugins import load_reference
from espalier.jobs.job import Job
from espalier.jobs.schema import resolved
from espalier.jobs.tracker import TRACKERS, TrackerKind
from espalier.stages.run_folder import RunFolder
from espalier.tracking.epochs import EPOCHS, EpochRecord, read_epochs
from espalier.tracking.events import EventKind, EventLog
from espalier.tracking.follow import News
from espalier.tracking.number_format import plain_text
from espalier.tracking.record import STEPS, StepRecord, read_steps
from espalier.tracking.tracker import Position, TrackedRun, Tracker

_ALERTS: tuple[EventKind, ...] = ("failed", "gate")


@dataclass(frozen=True)
class Access:
    """What a tracker may use of the process that drives the run; see `TrackedRun`."""

    secrets: Mapping[str, str] = field(default_factory=dict)
    stop: Callable[[], None] = lambda: None


class Mirror:
    """Sends one run to one tracker.

    No method raises: after the first failure nothing more is sent, and one event says so. Calls may block on the
    network, so they belong in a thread that nothing waits for.
    """

    def __init__(self, run_folder: Path, events: EventLog, *, title: str) -> None:
        self._run_folder = run_folder
        self._events = events
        self._title = title
        self._opened = time.time()
        self._tracker: Tracker | None = None
        self._advice: Callable[[], str] = str
        self._has_failed = False
        self._position = Position()
        self._sent_step = 0
        self._sent_epochs: dict[str, int] = {}
        self._waiting: dict[tuple[str, int], EpochRecord] = {}
        self._stages: dict[str, None] = {}

    @staticmethod
    def open(
        run_folder: Path,
        job: Job,
        events: EventLog,
        *,
        kind: TrackerKind,
        settings: Config,
        access: Access | None = None,
    ) -> Mirror:
        """Create the tracker and let it start the run or continue it."""
        mirror = Mirror(run_folder, events, title=kind.title)
        mirror._guarded(lambda: mirror._make(job, kind, settings, access or Access()))
        return mirror

    @property
    def is_open(self) -> bool:
        """Whether the tracker is there to be sent to; not where it is switched off, or has failed."""
        return self._tracker is not None

    def advice(self) -> str:
        """One line that tells the user what to do after the run; empty when there is nothing."""
        if self._has_failed:
            command = f"espalier sync {shlex.quote(str(self._run_folder))}"
            return f"{self._title} has not got all of this run; nothing is lost: `{command}` sends what it lacks"
        told = [""]
        self._guarded(lambda: told.append(self._advice()))
        return told[-1]

    def receive(self, news: News) -> None:
        """Send the steps and epochs that the tracker does not have yet, and the results of stages that finished."""
        self._guarded(lambda: self._send(news))

    def close(self) -> None:
        """Send the epochs that are still waiting, and finish the tracker."""
        self._guarded(self._finish)
        self._tracker = None

    def _guarded(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as fault:  # any kind: a tracker must never stop a run
            self._tracker, self._has_failed = None, True
            self._report(f"no longer mirrored to {self._title}: {type(fault).__name__}: {fault}")

    def _report(self, message: str) -> None:
        self._events.add("mirror", "", plain_text(message)[:500])

    def _make(self, job: Job, kind: TrackerKind, settings: Config, access: Access) -> None:
        run_id = RunFolder(self._run_folder).ids()["wandb_id"]  # used by every tracker; W&B was the first
        run = TrackedRun(self._run_folder, run_id, job.name, resolved(job), access.secrets, access.stop)
        tracker: Tracker = load_reference(kind.backend)(run, settings, self._report)
        self._advice = tracker.advice
        position = tracker.start()
        if position is not None:
            self._tracker = tracker
            self._begin_at(position)

    def _begin_at(self, position: Position) -> None:
        self._position, self._sent_step = position, position.step
        self._sent_epochs, self._waiting = {}, {}

    def _send(self, news: News) -> None:
        if self._tracker is None:
            return
        forgotten = news.num_forgotten_steps or news.num_forgotten_epochs
        anew = self._tracker.restart() if forgotten else None
        if anew is not None:
            self._begin_at(anew)
            self._send_rows(read_steps(self._run_folder / STEPS), read_epochs(self._run_folder / EPOCHS))
            self._send_results(self._stages)
        else:
            if news.num_forgotten_steps:
                self._tell_of_repeated(news.steps)
            self._send_rows(news.steps, news.epochs)
        finished = [event.stage for event in news.events if event.kind == "finished" and event.stage]
        self._stages |= dict.fromkeys(finished)
        self._send_results(finished)
        for event in news.events:
            if event.kind in _ALERTS and event.time >= self._opened:  # earlier ones were told by an earlier process
                self._tracker.alert(event)

    def _tell_of_repeated(self, steps: Sequence[StepRecord]) -> None:
        again = [step.global_step for step in steps if step.global_step <= self._sent_step]
        if again:
            which = f"steps {again[0]} to {again[-1]} were taken again"
            kept = f"{self._title} keeps the values that it was first sent"
            self._report(f"{which}: {kept}; the report and records/{STEPS.name} hold those that count")

    def _send_results(self, stages: Iterable[str]) -> None:
        assert self._tracker is not None
        for result in RunFolder(self._run_folder).results(stages).values():
            self._tracker.log_result(result)

    def _send_rows(self, steps: Sequence[StepRecord], epochs: Sequence[EpochRecord]) -> None:
        """Send steps and epochs in the order in which they happened: an epoch waits for its last step."""
        assert self._tracker is not None
        self._waiting |= {(epoch.stage, epoch.epoch): epoch for epoch in epochs}
        reached = max([self._sent_step, *(step.global_step for step in steps)])
        due = [epoch for epoch in self._waiting.values() if epoch.global_step <= reached]
        records: list[StepRecord | EpochRecord] = [*steps, *due]
        for record in sorted(records, key=lambda record: record.global_step):
            if isinstance(record, EpochRecord):
                self._send_epoch(record)
            elif record.global_step > self._sent_step:  # for a repeated step the tracker keeps the first value
                self._tracker.log_step(record)
                self._sent_step = record.global_step

    def _send_epoch(self, record: EpochRecord) -> None:
        assert self._tracker is not None
        del self._waiting[record.stage, record.epoch]
        sent = self._sent_epochs.get(record.stage)
        if record.epoch > (self._position.epoch(record.stage) if sent is None else sent):
            self._tracker.log_epoch(record)
            self._sent_epochs[record.stage] = record.epoch

    def _finish(self) -> None:
        if self._tracker is None:
            return
        for record in list(self._waiting.values()):  # their last step was skipped and has no record
            self._send_epoch(record)
        self._tracker.finish(list(RunFolder(self._run_folder).results(self._stages).values()))


def asked_trackers(job: Job) -> Iterator[tuple[TrackerKind, Config]]:
    """The trackers that a job asks for, and their settings."""
    for kind in TRACKERS.values():
        settings = getattr(job.tracking, kind.name)
        if settings is not None:
            yield kind, settings


def mirrors(
    run_folder: Path, job: Job, events: EventLog, *, access: Access, sync: bool = False
) -> Iterator[tuple[str, Callable[[], Mirror]]]:
    """For each tracker that a job asks for: its title, and a function that opens its mirror, which may take long.

    Args:
        access: with the secrets of all trackers; each gets its own alone.
        sync: with the settings that a tracker is given when a person asks to send the run.
    """
    for kind, settings in asked_trackers(job):
        asked = settings.model_copy(update=kind.sync) if sync else settings
        own = {name: access.secrets[name] for name in kind.secrets if name in access.secrets}
        given = replace(access, secrets=own)
        yield kind.title, partial(Mirror.open, run_folder, job, events, kind=kind, settings=asked, access=given)
