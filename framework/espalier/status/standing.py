"""How a run stands: the one place where heartbeat, lock, submission and recorded ends become a state."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, get_args

from espalier.config.faults import RefusedInput
from espalier.stages.controller import ExitCode
from espalier.stages.run_folder import RunFolder
from espalier.stages.stop_wish import read_wish
from espalier.stages.submissions import Submission, Submissions
from espalier.status.liveness import LastSign, last_sign, submission_sign
from espalier.tracking.driver_file import DriverRecord, read_driver

RunState = Literal[
    "waiting", "running", "stopping", "stopped", "done", "failed", "gate_failed", "refused", "lost", "unreadable"
]
STATES: tuple[RunState, ...] = get_args(RunState)
_GOES_ON: tuple[RunState, ...] = ("waiting", "running", "stopping")

Found = TypeVar("Found")

_START_SECONDS = 900.0  # within which a cluster starts a driver, or fails it
_ENDS: dict[int, RunState] = {
    ExitCode.DONE: "done",
    ExitCode.REFUSED: "refused",
    ExitCode.GATE_FAILED: "gate_failed",
    ExitCode.RESUMABLE: "stopped",
}


@dataclass(frozen=True)
class Standing:
    """How a run stands.

    Attributes:
        exit_code: of the run; 75 for a lost one, as it can be resumed; None while it goes on.
        reason: why it ended, in a sentence.
        waits_for: in state `waiting`.
        driver: what the last driver wrote.
        submission: the newest one.
        notes: on clocks that differ and files that could not be read, for a person.
    """

    state: RunState
    exit_code: int | None = None
    reason: str = ""
    waits_for: str = ""
    sign: LastSign | None = None
    driver: DriverRecord | None = None
    submission: Submission | None = None
    notes: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        return self.state in _GOES_ON

    @property
    def is_newly_submitted(self) -> bool:
        """Whether there is a submission that was made after the last driver had started."""
        return _is_newer(self.submission, self.driver)


def read_standing(
    folder: RunFolder, *, now: float | None = None, watch: Callable[[], bool] = lambda: False
) -> Standing:
    """How a run stands now.

    A driver that lives comes first, then a submission made after the last driver had started, then how that ended.

    Args:
        now: unix seconds; by default this host's clock.
        watch: called where clocks disagree on whether the driver lives; returns whether it does.
    """
    now, notes = time.time() if now is None else now, list[str]()
    driver = _read_or_note(lambda: read_driver(folder), notes)
    submission = _read_or_note(Submissions(folder).newest, notes)
    sign = _read_or_note(lambda: last_sign(folder, driver, now=now), notes)
    if sign is not None and sign.is_doubtful and watch():
        sign = replace(sign, is_alive=True, is_doubtful=False)
    standing = _standing(folder, driver, submission, sign, now=now)
    told = standing.sign.notes if standing.sign else ()
    return replace(standing, driver=driver, submission=submission, notes=(*notes, *told))


def _standing(
    folder: RunFolder, driver: DriverRecord | None, submission: Submission | None, sign: LastSign | None, *, now: float
) -> Standing:
    if sign is not None and sign.is_alive:
        return _alive(folder, driver, sign)
    if submission is not None and _is_newer(submission, driver):
        return _of_submission(folder, submission, now=now)
    if driver is None:
        return Standing("lost", ExitCode.RESUMABLE, _LOST, sign=sign) if sign else _of_results(folder)
    if driver.exit_code is not None and sign is None:
        return _ended(driver.exit_code, driver.reason)
    ended = None
    if submission is not None and driver.submission == submission.id and driver.exit_code is None:
        ended = _read_or_note(lambda: Submissions(folder).ended(submission), [])
    if ended is not None:
        return replace(_ended(ended.exit_code, ended.reason), sign=sign)
    return Standing("lost", ExitCode.RESUMABLE, _LOST, sign=sign)


_LOST = "its driver was not heard of any more, and has not said how it ended"


def _is_newer(submission: Submission | None, driver: DriverRecord | None) -> bool:
    return submission is not None and submission.number > (driver.num_submissions if driver else 0)


def _alive(folder: RunFolder, driver: DriverRecord | None, sign: LastSign) -> Standing:
    if driver is None or driver.exit_code is not None:
        return Standing("waiting", waits_for="its driver to start", sign=sign)
    wish = _read_or_note(lambda: read_wish(folder), [])
    if driver.is_stopping or (wish is not None and wish.submission == driver.submission):
        return Standing("stopping", sign=sign)
    if driver.waits_for:
        return Standing("waiting", waits_for=driver.waits_for, sign=sign)
    return Standing("running", sign=sign)


def _of_submission(folder: RunFolder, submission: Submission, *, now: float) -> Standing:
    """The state of a submission whose driver has not taken the run up."""
    submissions, notes = Submissions(folder), list[str]()
    ended = _read_or_note(lambda: submissions.ended(submission), notes)
    if ended is not None:
        return _ended(ended.exit_code, ended.reason)
    begun, renewed = _read_or_note(lambda: submissions.begun(submission), notes), submissions.renewed(submission)
    if begun is not None and renewed is not None:
        sign = submission_sign(renewed, host=begun.host, pid=begun.pid, now=now)
        if sign.is_alive:
            return Standing("waiting", waits_for="its driver to read the job's data", sign=sign)
        return Standing("lost", ExitCode.RESUMABLE, _LOST, sign=sign)
    if now - submission.submitted > _START_SECONDS:
        reason = f"the cluster at {submission.address} has not started its driver"
        return Standing("lost", ExitCode.RESUMABLE, reason)
    return Standing("waiting", waits_for=f"the cluster at {submission.address} to start its driver")


def _of_results(folder: RunFolder) -> Standing:
    """The state of a run that no driver has written of: an older espalier did not, or it was never started."""
    entries = folder.plan()
    results = folder.results(entry.name for entry in entries)
    current = [found for entry in entries if (found := results.get(entry.name)) and found.key == entry.key]
    failed = next((result for result in current if result.status == "gate_failed"), None)
    if failed is not None:
        return Standing("gate_failed", ExitCode.GATE_FAILED, f"stage {failed.stage}: {failed.gate or 'gate failed'}")
    if entries and len(current) == len(entries):
        return Standing("done", ExitCode.DONE, "all stages are done")
    return Standing("stopped", ExitCode.RESUMABLE, "no driver has written how it ended")


def _ended(exit_code: int, reason: str) -> Standing:
    return Standing(_ENDS.get(exit_code, "failed"), exit_code, reason)


def _read_or_note(read: Callable[[], Found], notes: list[str]) -> Found | None:
    """What a file holds; None, with a note, when somebody has written something else there."""
    try:
        return read()
    except RefusedInput as refused:
        notes.append(str(refused.faults[0]))
        return None
