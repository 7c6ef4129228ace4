"""The driver's side of a submission: take it up, keep what is printed, and leave its exit code in the run's folder."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from espalier.config.faults import Fault, RefusedInput
from espalier.stages.controller import ExitCode
from espalier.stages.findings import Findings
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submission, Submissions
from espalier.tracking.driver_file import BEAT_SECONDS
from espalier_cluster.driver_log import mirrored
from espalier_cluster.preflight_table import Preflight
from espalier_cluster.submit import own_versions
from espalier_cluster.told import Outcome, told


def drive_submission(job_file: Path, submission_id: str, action: Callable[[Preflight], object]) -> int:
    """Carry out a submitted run; returns its exit code.

    The submission counts as begun once the preflight has passed. What was found is written down for the client, which
    removes the submission when it was refused.

    Args:
        job_file: of the submission, in the run's folder.
        action: the run itself.

    Raises:
        RefusedInput: the storage is not the client's. Nothing was written.
    """
    folder = RunFolder(job_file.parent.parent)
    submissions = Submissions(folder)
    submission = submissions.named(submission_id)
    if submission is None:
        allowed = "a folder that the client, the head and all nodes of the cluster share; what the client wrote for"
        raise RefusedInput([Fault("storage", str(folder.path.parent), f"{allowed} {submission_id} is not there")])
    outcome = Outcome(ExitCode.ERROR, "the driver was ended")
    try:
        with contextlib.ExitStack() as stack:
            start = _Start(submissions, submission, stack)
            outcome = told(lambda: start.carry_out(action))
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


@dataclass
class _Start:
    """Takes a submission up once its preflight has passed; from then on the run's folder has what is printed."""

    submissions: Submissions
    submission: Submission
    stack: contextlib.ExitStack
    has_begun: bool = False

    def carry_out(self, action: Callable[[Preflight], object]) -> None:
        preflight = Preflight(self._begin)
        try:
            refuse_other_versions(self.submission)
            action(preflight)
        except RefusedInput as refused:
            if not self.has_begun:
                findings = Findings.of(preflight.checks, refused.faults, time=time.time())
                self.submissions.note_findings(self.submission, findings)
            raise

    def _begin(self, findings: Findings) -> None:
        self.submissions.note_findings(self.submission, findings)
        self.submissions.begin(self.submission, host=socket.gethostname(), pid=os.getpid())
        self.has_begun = True
        self.stack.enter_context(mirrored(self.submissions.run))
        self.stack.enter_context(_renewed(self.submissions, self.submission))


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
