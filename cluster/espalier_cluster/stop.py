"""Stop a run from anywhere: leave a wish in its folder, wait until the driver has committed, look what is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from espalier.checkpoint.lock import living_holder
from espalier.config.faults import RefusedInput
from espalier.stages.controller import ExitCode
from espalier.stages.run_folder import RunFolder
from espalier.stages.stop_wish import StopWish, read_wish, remove_wish, write_wish
from espalier.stages.submissions import Submission, Submissions
from espalier_cluster.jobs_server import JobsServer, JobState, ServerAway
from espalier_cluster.resume_point import find_resume_point

_LOOK_SECONDS = 0.5
_END_SECONDS = 20.0  # for Ray to take down what an ended driver had
_MORE_SECONDS = 120.0  # beyond the job's own grace: the driver closes its trackers and writes its report


@dataclass(frozen=True)
class Stopper:
    """What a stop needs beside the run.

    Attributes:
        server: of the cluster that the run was submitted to; None when it is not known or not reached.
    """

    folder: RunFolder
    server: JobsServer | None
    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)


def stop(stopper: Stopper, *, now: bool, preempted: bool = False) -> tuple[ExitCode, str]:
    """Stop a run; returns the exit code of the command, and how it went in a sentence.

    Args:
        now: do not wait for the end of a step, and do not save.
        preempted: for the scheduler that takes the driver's machine away, and starts the run again.
    """
    folder, submission = stopper.folder, _driven_submission(stopper.folder)
    name = folder.path.name
    if _has_ended(stopper, submission):
        left = _leftovers(stopper, submission)
        return (ExitCode.ERROR, f"{name} is not running, but {left}") if left else (ExitCode.DONE, _at_rest(name))
    wish = StopWish(submission=submission.id if submission else None, now=now, preempted=preempted)
    write_wish(folder, wish)
    state = _state(stopper, submission)
    if submission and state and not state.has_ended and Submissions(folder).begun(submission) is None:
        _end_job(stopper, submission)  # it waits for its driver, which has nothing to save
    was_killed = not _await_end(stopper, submission, wish)
    if not was_killed:
        _await_job(stopper, submission)
    _end_job(stopper, submission)
    if was_killed and not _await_end(stopper, submission, wish, seconds=_END_SECONDS):
        return ExitCode.ERROR, f"{name} goes on: its driver does not answer to a wish in its folder"
    left = _leftovers(stopper, submission)
    if _wish_of(folder) == wish:
        remove_wish(folder)
    how = "was ended by force, as it did not stop in time" if was_killed else "has stopped"
    rest = left or ("nothing of it is left on the cluster" if stopper.server else "the cluster was not asked")
    return ExitCode.ERROR if left else ExitCode.DONE, f"{name} {how}; {find_resume_point(folder)}; {rest}"


def _driven_submission(folder: RunFolder) -> Submission | None:
    """The last submission; None also when the lock's holder was started by other means, as by a scheduler."""
    submission, holder = Submissions(folder).newest(), living_holder(folder.path / "lock")
    if submission is None or holder is None:
        return submission
    begun = Submissions(folder).begun(submission)
    is_its_driver = begun is None or (begun.host, begun.pid) == (holder.host, holder.pid)
    return submission if is_its_driver else None


def _at_rest(name: str) -> str:
    return f"{name} is not running, and nothing of it is left"


def _await_end(
    stopper: Stopper, submission: Submission | None, wish: StopWish, *, seconds: float | None = None
) -> bool:
    """Wait until the driver has ended; False when it has not in time. A wish that vanishes is written again."""
    deadline = stopper.clock() + (seconds if seconds is not None else _grace_seconds(stopper.folder))
    while not _has_ended(stopper, submission):
        if stopper.clock() > deadline:
            return False
        if _wish_of(stopper.folder) is None:  # removed by a driver that was just starting
            write_wish(stopper.folder, wish)
        stopper.sleep(_LOOK_SECONDS)
    return True


def _await_job(stopper: Stopper, submission: Submission | None) -> None:
    """Give a driver that has said how it ended the time to leave, so that its job keeps its exit code."""
    deadline = stopper.clock() + _END_SECONDS
    while (state := _state(stopper, submission)) and not state.has_ended and stopper.clock() < deadline:
        stopper.sleep(_LOOK_SECONDS)


def _grace_seconds(folder: RunFolder) -> float:
    try:
        return folder.read_job().retry.grace_seconds + _MORE_SECONDS
    except (FileNotFoundError, RefusedInput):
        return _MORE_SECONDS


def _has_ended(stopper: Stopper, submission: Submission | None) -> bool:
    """Whether no driver has the run, and none is about to: a job that waits on its cluster has not ended."""
    lock = stopper.folder.path / "lock"
    if living_holder(lock) is not None:
        return False
    if submission is None or Submissions(stopper.folder).ended(submission) is not None:
        return True
    server = stopper.server
    if server is None or server.address != submission.address:
        return lock.exists()  # of a driver that died; without a lock nothing is known of the job
    if server.session != submission.session:
        return True  # its cluster was started anew since
    try:
        state = server.look(submission.id)
    except ServerAway:
        return False
    return state is None or state.has_ended


def _state(stopper: Stopper, submission: Submission | None) -> JobState | None:
    """The job's state; None when the run was not submitted, or the cluster is unknown, away or does not know it."""
    if stopper.server is None or submission is None or submission.session != stopper.server.session:
        return None
    try:
        return stopper.server.look(submission.id)
    except ServerAway:
        return None


def _end_job(stopper: Stopper, submission: Submission | None) -> None:
    state = _state(stopper, submission)
    if stopper.server and submission and state and not state.has_ended:
        try:
            stopper.server.stop(submission.id)
        except ServerAway:
            return


def _leftovers(stopper: Stopper, submission: Submission | None) -> str:
    """What is left on the cluster, in words; empty when nothing is, or nobody can be asked."""
    state = _state(stopper, submission)
    if stopper.server is None or state is None or not state.ray_job:
        return ""
    deadline = stopper.clock() + _END_SECONDS
    while True:
        try:
            left = stopper.server.leftovers(state.ray_job)
        except ServerAway as away:
            return f"what is left could not be asked: {away}"
        if not left:
            return ""
        if stopper.clock() > deadline:
            return f"left on the cluster: {', '.join(left)}"
        stopper.sleep(_LOOK_SECONDS)


def _wish_of(folder: RunFolder) -> StopWish | None:
    try:
        return read_wish(folder)
    except (OSError, RefusedInput):
        return None
