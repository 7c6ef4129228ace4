"""Drive a run from a prepared job to an exit code: lock, controller, runner, display and trackers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from espalier import __version__
from espalier.checkpoint.lock import RunLock
from espalier.checkpoint.places import claim_states, require_usable, state_storage
from espalier.checkpoint.steps import newest_step, stage_folder
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.tracker import TRACKERS
from espalier.planning.checks import storage_bytes
from espalier.planning.prepare import PreparedJob
from espalier.stages.controller import ExitCode, Progress, Runner, Stop, Surroundings, carry_out, decide
from espalier.stages.failures import FULL, TAKES_NO_MORE
from espalier.stages.heartbeats import Control
from espalier.stages.ownership import claim, require_own
from espalier.stages.run_folder import RunFolder
from espalier.tracking.driver_file import DriverFile
from espalier.tracking.events import EVENTS, EventLog
from espalier.tracking.mirror import Access
from espalier.tracking.time_log import TIME, TimeLog, end_killed_driver
from espalier_cluster.driver_end import driver_file
from espalier_cluster.environment import default_variables, hide_secrets, wandb_folders
from espalier_cluster.event_recorder import EventRecorder
from espalier_cluster.follow_run import followed
from espalier_cluster.local_cluster import cluster
from espalier_cluster.log_filter import filter_logs
from espalier_cluster.outcome import say_end, show_end
from espalier_cluster.resume import (
    apply_resume,
    clear_resume_note,
    refuse_exports,
    remove_replaced,
    repeated_stage_messages,
)
from espalier_cluster.show import show_remarks
from espalier_cluster.stop_watch import stop_on_wish, wish_to_stop
from espalier_cluster.stopping import stop_on_signal
from espalier_cluster.terminal import say


@dataclass(frozen=True)
class HowToRun:
    """The options of the command line that are not part of the job.

    Attributes:
        address: of a running Ray cluster; None for a local one.
        insecure: join a cluster that requires no token.
        in_process: run one worker in this process, without Ray.
        verbose: do not filter the logs of libraries.
        submission: id of the submission that this is the driver of; None for a command of a person.
        is_connected: this process has joined the cluster at `address`, and has checked it.
        scheduled: a scheduler starts the command again when it fails; so a stop that a person wished for is no failure.
    """

    address: str | None = None
    insecure: bool = False
    in_process: bool = False
    verbose: bool = False
    submission: str | None = None
    is_connected: bool = False
    scheduled: bool = False

    def options(self) -> tuple[str, ...]:
        """The words of the command line for another driver that is to run likewise."""
        address = () if self.address is None else ("--address", self.address)
        flags = ("insecure", "in_process", "verbose")
        return (*address, *(f"--{name.replace('_', '-')}" for name in flags if getattr(self, name)))


def drive(prepared: PreparedJob, how: HowToRun, console: Console) -> ExitCode:
    """Start or resume a run, until it ends or is stopped; holds the lock of the run's folder meanwhile.

    Raises:
        RefusedInput: another process holds the lock, or the cluster lacks the resources.
    """
    job, folder = prepared.job, RunFolder.of(prepared.job)
    require_own(folder)
    _make(folder, job)
    with (
        RunLock(folder.path / "lock", job=job.name) as lock,
        filter_logs(verbose=how.verbose),
        hide_secrets(name for kind in TRACKERS.values() for name in kind.secrets) as secrets,
        default_variables(wandb_folders(folder.path)),
    ):
        claim(folder, versions=_versions())
        with driver_file(folder, how.submission, how.options(), may_write=lambda: not lock.lost) as file:
            held = _Held(lock, file, secrets)
            stop = _hold(prepared, folder, how, held, console)
            file.end(stop.code, stop.reason)
    say_end(console, stop, folder)
    is_wished = how.scheduled and held.wished.is_set() and stop.code is ExitCode.RESUMABLE
    return ExitCode.DONE if is_wished else stop.code


@dataclass(frozen=True)
class _Held:
    """What a driver has once it holds the lock: that, its heartbeats, and the values of the trackers' secrets.

    Attributes:
        wished: set once a person has wished that the run stops.
    """

    lock: RunLock
    file: DriverFile
    secrets: Mapping[str, str]
    wished: threading.Event = field(default_factory=threading.Event)


def _hold(prepared: PreparedJob, folder: RunFolder, how: HowToRun, held: _Held, console: Console) -> Stop:
    """Carry the job out; the caller holds the run's lock."""
    job, lock = prepared.job, held.lock
    if job.checkpoints is not None:
        storage = state_storage(folder.path, job)
        require_usable(storage, job)
        claim_states(storage, job, run_id=folder.ids()["run_id"])
    for sentence in _write_down(prepared, folder):
        say(console, sentence)
    events = EventLog(folder.path / EVENTS)
    show_remarks(console, prepared.remarks)
    for text in prepared.remarks:
        events.add("note", "", text)
    names = [stage.name for stage in prepared.plan.stages]
    earlier = Progress(folder.results(names), folder.attempts())
    stop = decide(prepared.plan, earlier, job.retry)
    is_idle = isinstance(stop, Stop)
    access = Access(held.secrets, stop=partial(wish_to_stop, folder, how.submission))
    following = followed(prepared, folder, events, console, access)
    wishes = stop_on_wish(folder, how.submission, wished=held.wished)
    with stop_on_signal(lambda text: say(console, text)) as stopping, wishes, following as advice:
        held.file.is_stopping = stopping.is_set
        if not isinstance(stop, Stop):
            lock.on_lost = lambda text: _stop_on_lost_lock(text, console, events, stopping)
            recorder = EventRecorder(folder, events, TimeLog(folder.path / TIME), held.file, works_here=how.in_process)
            with _timed(folder), _lost_lock_tolerated(lock):
                stop = _carry_out(prepared, folder, earlier, recorder, how, stopping)
    if lost := lock.lost:
        return Stop(ExitCode.RESUMABLE if folder.path.exists() else ExitCode.ERROR, lost)
    assert isinstance(stop, Stop)
    if stop.code is not ExitCode.RESUMABLE:
        clear_resume_note(folder)
    show_end(console, folder, [stage.config for stage in prepared.plan.stages])
    for line in advice:
        say(console, line, style="yellow")
    if is_idle and stop.code is ExitCode.DONE:
        say(console, "nothing to do: all stages are done")
    return stop


def _make(folder: RunFolder, job: Job) -> None:
    try:
        folder.make(job)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise RefusedInput([Fault("storage", job.storage, f"a folder that can be written to ({error})")]) from None


def _write_down(prepared: PreparedJob, folder: RunFolder) -> list[str]:
    """Prepare the run's folder for this start; returns messages about repeated stages."""
    folder.tidy()
    remove_replaced(prepared, folder)
    apply_resume(prepared, folder)
    refuse_exports(prepared, folder)
    again = repeated_stage_messages(prepared, folder)
    for sentence in again:
        EventLog(folder.path / EVENTS).add("note", "", sentence)
    folder.remove("failure.txt")
    prepared.write_down(folder)
    return again


def _versions() -> dict[str, str]:
    libraries = ("torch", "deepspeed", "transformers", "ray")
    return {"espalier": __version__} | {name: version(name) for name in libraries}


def _carry_out(
    prepared: PreparedJob,
    folder: RunFolder,
    earlier: Progress,
    recorder: EventRecorder,
    how: HowToRun,
    stop: threading.Event,
) -> Stop:
    storage = state_storage(folder.path, prepared.job)
    surroundings = Surroundings(
        stop=stop,
        position=lambda stage: newest_step(storage, stage_folder(stage.name), key=stage.key),
        on_event=recorder,
    )
    try:
        with _runner(prepared, folder, recorder, how, stop) as runner:
            return carry_out(
                prepared.plan,
                runner,
                run_folder=str(folder.path),
                earlier=earlier,
                retry=prepared.job.retry,
                surroundings=surroundings,
            )
    except KeyboardInterrupt:
        recorder.interrupted()
        return Stop(ExitCode.RESUMABLE, "stopped at once")
    except OSError as error:
        is_ours = Path(str(error.filename)).is_relative_to(folder.path)
        if error.errno not in (TAKES_NO_MORE if is_ours else FULL):
            raise
        return Stop(ExitCode.RESUMABLE, f"{error}; {'make room' if error.errno in FULL else 'make it writable'}")


@contextlib.contextmanager
def _runner(
    prepared: PreparedJob, folder: RunFolder, recorder: EventRecorder, how: HowToRun, stop: threading.Event
) -> Iterator[Runner]:
    job = prepared.job
    if how.in_process:
        from espalier.worker.in_process import InProcessRunner

        with contextlib.closing(InProcessRunner(Control(stop))) as runner:
            yield runner
        return
    recorder.waits_for("the cluster")
    with _connected(prepared, how):
        from espalier_cluster.group_size import GroupSize  # Ray reads its environment on import
        from espalier_cluster.ray_runner import Notices, RayRunner

        size = GroupSize(job.workers, job.worker_counts(), stop=stop)
        notices = Notices(recorder.waits_for, recorder.placed)
        ray = RayRunner(size, str(folder.path), verbose=how.verbose, stop=stop, retry=job.retry, notices=notices)
        with contextlib.closing(ray) as runner:
            yield runner


@contextlib.contextmanager
def _connected(prepared: PreparedJob, how: HowToRun) -> Iterator[None]:
    """Connect to a cluster that has room for the job, for the time of the block."""
    if how.is_connected:
        yield
        return
    workers = prepared.job.workers
    with cluster(workers, address=how.address, insecure=how.insecure, verbose=how.verbose):
        from espalier_cluster.preflight import check_cluster  # as above

        needed_bytes = storage_bytes(prepared.job, prepared.previews)
        check_cluster(workers, Path(prepared.job.storage), needed_bytes=needed_bytes)
        yield


@contextlib.contextmanager
def _timed(folder: RunFolder) -> Iterator[None]:
    """Record the block in the time log: `waiting` at its start, `stopped` at its end."""
    end_killed_driver(folder.path)
    times = TimeLog(folder.path / TIME)
    times.record("waiting")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a full disk
            times.record("stopped")


@contextlib.contextmanager
def _lost_lock_tolerated(lock: RunLock) -> Iterator[None]:
    """Suppress `OSError` when the lock was lost: the folder is gone or another process's, and the lock reports that."""
    try:
        yield
    except OSError:
        if lock.lost is None:
            raise


def _stop_on_lost_lock(text: str, console: Console, events: EventLog, stop: threading.Event) -> None:
    """Stop the run, because another process has taken its folder over or removed it."""
    say(console, f"{text}; stopping", style="red")
    with contextlib.suppress(OSError):  # the folder may be gone
        events.add("note", "", text)
    stop.set()
