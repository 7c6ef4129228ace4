"""Submit a run to a cluster so that it is there once, at whatever instant the client dies.

The submission is written into the run's folder first, under an id that the client makes. The cluster is asked then, and
starts an id once. A repeated submit finds the written submission: the cluster has its job, or is asked again under the
same id. Two drivers of one run, of two clusters, exclude each other by the run's lock.
"""

from __future__ import annotations

import platform
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from espalier import __version__
from espalier.checkpoint.lock import living_holder
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.stages.findings import Check
from espalier.stages.ownership import claim, require_own
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import FOLDER, Submission, Submissions
from espalier_cluster.jobs_server import JobsServer, JobState, ServerAway
from espalier_cluster.local_cluster import RUN

_LOOK_SECONDS = 0.5
_AWAY_SECONDS = 30.0
_RETURN_SECONDS = 2.5
_LONGEST_TOLD = 400


@dataclass(frozen=True)
class Submitted:
    """The outcome of a submit.

    Attributes:
        is_new: this call has started the job; False: an earlier one had, and the job goes on.
        has_begun: the run's driver has taken it up; False: it had not when the patience ended.
    """

    submission: Submission
    is_new: bool
    has_begun: bool


@dataclass(frozen=True)
class Client:
    """What a submit needs beside the job.

    Attributes:
        insecure: have the driver join a cluster that requires no token.
        patience_seconds: how long to wait for the driver's first sign.
        on_checks: called with what was checked, before a refusal is raised.
    """

    server: JobsServer
    insecure: bool = False
    patience_seconds: float = 120.0
    on_checks: Callable[[Sequence[Check]], None] = field(default=lambda checks: None)
    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)


def submit(job: Job, client: Client) -> Submitted:
    """Start a run's driver on a cluster and wait for its first sign; an earlier submission that goes on is found.

    Raises:
        RefusedInput: the run goes on with another job; the cluster has other versions, does not see the storage, or
            lacks anything else that the run needs. Nothing is left behind then.
        ServerAway: the cluster stopped answering. The same call, made again, finds what there is.
    """
    refuse_other_ray(client.server)
    folder = RunFolder.of(job)
    require_own(folder)
    made = [one for one in (folder.path, *folder.path.parents) if not one.exists()]
    _make(folder, job)
    claim(folder, versions=own_versions())
    submissions = Submissions(folder)
    submission, is_new = _written(job, submissions, client)
    _start(submission, submissions, client)
    try:
        has_begun = _await_begin(submission, submissions, client)
    except RefusedInput:
        _tell_checks(submission, submissions, client)
        with suppress(ServerAway):  # the cluster's list of jobs keeps one that has failed
            _remove_job(submission, client)
        submissions.withdraw(submission)
        _remove_made(folder, made)
        raise
    if is_new:
        _tell_checks(submission, submissions, client)
    return Submitted(submission, is_new, has_begun)


def _remove_job(submission: Submission, client: Client) -> None:
    """Remove a failed job from the list until it stays away: Ray may write its end once more, a second later (2.60)."""
    deadline, gone_since = client.clock() + _AWAY_SECONDS, client.clock()
    while client.clock() < min(deadline, gone_since + _RETURN_SECONDS):
        if client.server.look(submission.id) is not None:
            client.server.remove(submission.id)
            gone_since = client.clock()
        client.sleep(_LOOK_SECONDS)


def _tell_checks(submission: Submission, submissions: Submissions, client: Client) -> None:
    findings = submissions.findings(submission)
    asks = "it may let in who has no token (--insecure)" if client.insecure else "it asks for a token"
    reached = Check(what="cluster", state="warned" if client.insecure else "good", found=f"reached; {asks}")
    client.on_checks((reached, *(findings.checks if findings else ())))


def _remove_made(folder: RunFolder, made: Sequence[Path]) -> None:
    """Remove the folders that this submit has made, if nobody has put anything else there."""
    if folder.path in made and set(folder.files.list(".")) <= {"run.json", FOLDER}:
        folder.files.remove(FOLDER)
        folder.files.remove("run.json")
    for one in made:
        with suppress(OSError):
            one.rmdir()


def under_way(submissions: Submissions, server: JobsServer) -> Submission | None:
    """The last submission, unless it has ended or belongs to another cluster."""
    newest = submissions.newest()
    if newest is None or newest.session != server.session or submissions.ended(newest) is not None:
        return None
    state = server.look(newest.id)
    if state is None:  # never started here; or it has run, and somebody has removed it from the list
        return newest if submissions.begun(newest) is None else None
    return None if state.has_ended else newest


def own_versions() -> dict[str, str]:
    """Versions that client and driver must share; of Python the first two numbers."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"espalier": __version__, "ray": version("ray"), "python": python}


def refuse_other_ray(server: JobsServer) -> None:
    """Refuse a cluster of another Ray, before anything is written."""
    ours = version("ray")
    if server.ray_version != ours:
        allowed = f"{ours}, as here: install one version on both sides"
        raise RefusedInput([Fault(f"ray on the cluster at {server.address}", server.ray_version, allowed)])


def _written(job: Job, submissions: Submissions, client: Client) -> tuple[Submission, bool]:
    """The submission to start: one that is under way, or a new one."""
    while True:
        found = under_way(submissions, client.server)
        if found is not None:
            _refuse_other_job(job, submissions, found)
            return found, client.server.look(found.id) is None
        _refuse_driven(submissions.run)
        session, address = client.server.session, client.server.address
        added = submissions.add(job, session=session, address=address, versions=own_versions())
        if added is not None:
            return added, True


def _refuse_driven(folder: RunFolder) -> None:
    """Refuse a run that a driver holds which is none of this cluster's jobs."""
    holder = living_holder(folder.path / "lock")
    if holder is not None:
        where = f"process {holder.pid} on host {holder.host}"
        allowed = f"a run that nobody else drives; {where} does: stop it first (`espalier stop {folder.path}`)"
        raise RefusedInput([Fault("name", folder.path.name, allowed)])


def _refuse_other_job(job: Job, submissions: Submissions, found: Submission) -> None:
    if submissions.job(found) != job:
        allowed = (
            f"the job that is under way as {found.id}; stop it first (`espalier stop {submissions.run.path}`), or give "
            f"this one another name"
        )
        raise RefusedInput([Fault("name", job.name, allowed, given=f"is {job.name!r}, a run with other settings")])


def _start(submission: Submission, submissions: Submissions, client: Client) -> None:
    described = metadata(submission, submissions)
    deadline = client.clock() + _AWAY_SECONDS
    while True:  # a lost answer: asking again under the same id starts nothing twice
        try:
            client.server.start(submission.id, entrypoint(submission, submissions, client.insecure), described)
            return
        except ServerAway:
            if client.clock() > deadline:
                raise
        client.sleep(_LOOK_SECONDS)


def entrypoint(submission: Submission, submissions: Submissions, insecure: bool) -> str:
    """The driver's command. It computes nothing, so no GPU is asked for it: workers are placed by the driver."""
    command = ["espalier", "run", submissions.job_path(submission), "--address", "auto", "--submission", submission.id]
    return shlex.join(command + ["--insecure"] * insecure)


def metadata(submission: Submission, submissions: Submissions) -> dict[str, str]:
    """What the cluster lists beside the job, for people."""
    run = submissions.run.path
    return {RUN: run.name, "run_folder": str(run), "attempt": str(submission.number)}


def _await_begin(submission: Submission, submissions: Submissions, client: Client) -> bool:
    """Wait for the driver's first sign; False when there was none in time, and the job waits still.

    Raises:
        RefusedInput: the job ended without one.
    """
    deadline = client.clock() + client.patience_seconds
    while submissions.begun(submission) is None:
        state = _known_state(submission, client)
        if state is not None and state.has_ended and submissions.begun(submission) is None:
            raise RefusedInput(_why_not_begun(submission, submissions, client, state))
        if client.clock() > deadline:
            return False
        client.sleep(_LOOK_SECONDS)
    return True


def _known_state(submission: Submission, client: Client) -> JobState | None:
    try:
        return client.server.look(submission.id)
    except ServerAway:
        return None


def _why_not_begun(submission: Submission, submissions: Submissions, client: Client, state: JobState) -> list[Fault]:
    """The faults that the driver has found and written down, or what its log says where it could not."""
    findings = submissions.findings(submission)
    if findings is not None and findings.faults:
        return findings.as_faults()
    where = f"the cluster at {client.server.address}"
    if state.exit_code == 127:
        allowed = f"a cluster whose head has espalier {__version__} on its PATH"
        return [Fault("--address", client.server.address, allowed)]
    lines = [line.strip() for line in client.server.log(submission.id).splitlines() if line.strip()]
    told = next((line for line in reversed(lines) if line.startswith(("refused:", "error:"))), "")
    told = told or (lines[-1] if lines else state.message) or state.status
    allowed = f"one that can start on {where}, which said: {told.removeprefix('refused: ')[:_LONGEST_TOLD]}"
    return [Fault("submission", submissions.run.path.name, allowed, given="did not start")]


def _make(folder: RunFolder, job: Job) -> None:
    try:
        folder.make(job)
    except OSError as error:
        allowed = f"a folder that this machine and every node of the cluster share and can write to ({error})"
        raise RefusedInput([Fault("storage", job.storage, allowed)]) from None
