"""The driver's side of a submission: take it up, keep what is printed, and leave its exit code in the run's folder."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from espalier.config.faults import Fault, RefusedInput
from espalier.stages.controller import ExitCode
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submission, Submissions
from espalier.tracking.driver_file import BEAT_SECONDS
from espalier_cluster.driver_log import mirrored
from espalier_cluster.submit import own_versions
from espalier_cluster.told import Outcome, told


def drive_submission(job_file: Path, submission_id: str, action: Callable[[], object]) -> int:
    """Carry out a submitted run; returns its exit code.

    Args:
        job_file: of the submission, in the run's folder.
        action: the run itself.

    Raises:
        RefusedInput: the storage is not the client's, or this machine has other versions. Nothing was written.
    """
    folder = RunFolder(job_file.parent.parent)
    submissions = Submissions(folder)
    submission = submissions.named(submission_id)
    if submission is None:
        allowed = "a folder that the client, the head and all nodes of the cluster share; what the client wrote for"
        raise RefusedInput([Fault("storage", str(folder.path.parent), f"{allowed} {submission_id} is not there")])
    refuse_other_versions(submission)
    submissions.begin(submission, host=socket.gethostname(), pid=os.getpid())
    outcome = Outcome(ExitCode.ERROR, "the driver was ended")
    try:
        with mirrored(folder), _renewed(submissions, submission):
            outcome = told(action)
    finally:
        with contextlib.suppress(OSError):  # a full disk: whoever waits sees that the driver is gone
            submissions.end(submission, exit_code=outcome.code % 256, reason=outcome.reason)
    return outcome.code


@contextlib.contextmanager
def _renewed(submissions: Submissions, submission: Submission) -> Iterator[None]:
    """Show that this process lives, from before it reads the job's data to its end."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(BEAT_SECONDS):
            submissions.renew(submission)

    thread = threading.Thread(target=renew, name="submission", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def refuse_other_versions(submission: Submission) -> None:
    """Refuse a submission of a client that has another Python, Ray or espalier than this machine.

    Raises:
        RefusedInput: all that differ.
    """
    here = own_versions()
    faults = [
        Fault(f"{name} on {socket.gethostname()}", here[name], f"{theirs}, as where the run was submitted")
        for name, theirs in submission.versions.items()
        if here.get(name, theirs) != theirs
    ]
    if faults:
        raise RefusedInput(faults)
