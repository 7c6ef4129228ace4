"""Join a running cluster, check it for a job, and prepare the job, before anything of the run is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.recipe import stages_of
from espalier.planning.prepare import PreparedJob, prepare
from espalier.stages.ownership import require_own
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import FOLDER
from espalier_cluster.drive import HowToRun
from espalier_cluster.local_cluster import cluster
from espalier_cluster.log_filter import filter_logs
from espalier_cluster.preflight_table import Preflight, show_checks
from espalier_cluster.terminal import open_terminal


@contextlib.contextmanager
def checked_start(job: Job, how: HowToRun, preflight: Preflight) -> Iterator[tuple[PreparedJob, HowToRun]]:
    """Prepare a job inside the block; on a running cluster joined, checked, and with the table printed.

    What can be told without reading the job's data comes first. A run whose stages all have a result is not checked:
    most likely nothing is left to do.

    Yields:
        The prepared job, and how to drive it.

    Raises:
        RefusedInput: every fault that was found. Nothing is left on cluster and storage.
    """
    if how.address is None or how.in_process or _looks_done(job):
        prepared = prepare(job)
        preflight.passed()
        yield prepared, how
        return
    with filter_logs(verbose=how.verbose), _joined(job, how):
        try:
            prepared = _checked(job, preflight)
            preflight.passed()
        finally:
            show_checks(open_terminal(), preflight.checks)  # after it has passed the run's log has the table, too
        yield prepared, replace(how, is_connected=True)


def check_room(prepared: PreparedJob, how: HowToRun, console: Console) -> None:
    """Check whether a prepared job could run on a running cluster, and print the table.

    Raises:
        RefusedInput: every fault that was found.
    """
    preflight = Preflight()
    with filter_logs(verbose=how.verbose), _joined(prepared.job, how):
        try:
            _checked(prepared.job, preflight, prepared)
        finally:
            show_checks(console, preflight.checks)


@contextlib.contextmanager
def _joined(job: Job, how: HowToRun) -> Iterator[None]:
    with cluster(job.workers, address=how.address, insecure=how.insecure, verbose=how.verbose, run=job.name):
        yield


def _checked(job: Job, preflight: Preflight, prepared: PreparedJob | None = None) -> PreparedJob:
    from espalier_cluster.cluster_checks import look_at_cluster, look_at_plan  # Ray reads its environment on import

    with _place(job) as place:
        reports = look_at_cluster(preflight, job, place=place)
    preflight.require()
    try:
        prepared = prepared or prepare(job)
    except RefusedInput as refused:
        preflight.note("job", "cannot run as it is", refused.faults)
        raise
    look_at_plan(preflight, prepared, reports)
    preflight.require()
    return prepared


@contextlib.contextmanager
def _place(job: Job) -> Iterator[Path]:
    """A folder on the storage to ask the nodes about: the run's own if it is there. What had to be made is removed."""
    require_own(RunFolder.of(job))
    folder = RunFolder.of(job).path
    known = next((one for one in (folder / FOLDER, folder) if one.is_dir()), Path(job.storage))
    made = [one for one in (known, *known.parents) if not one.exists()]
    try:
        known.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusedInput([Fault("storage", job.storage, f"a folder that can be made ({error})")]) from None
    try:
        yield known
    finally:
        for one in made:
            with contextlib.suppress(OSError):  # somebody has put something there meanwhile
                one.rmdir()


def _looks_done(job: Job) -> bool:
    names = [stage.name for stage in stages_of(job)]
    return len(RunFolder.of(job).results(names)) == len(names)
