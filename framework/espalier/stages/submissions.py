"""The record of a run's submissions to clusters, in the folder `submits` of the run.

```
<number>.json        a submission: its id, its job file, its cluster; written before the cluster is asked
<number>.found.json  written by the driver when it has checked its cluster: the findings
<number>.begun.json  written by the driver when it takes the submission up, and touched while it lives
<number>.ended.json  written by the driver at its end: its exit code
job-<hash>.json      resolved jobs
```

Only one client can create the file of a number, and a cluster starts an id once. A client that dies at any instant
thus leaves a submission that the next client finds, and starts if it had not been started yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Field

from espalier.config.base import NAME
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.schema import resolved
from espalier.stages.findings import Findings
from espalier.stages.run_folder import RunFolder
from espalier.storage.names import Time
from espalier.storage.records import Versioned, read_record

FOLDER = "submits"

_NUMBER = re.compile(r"([0-9]{6,9})\.json")
_MAX_BYTES = 2**24
_REMEDY = "a submission as espalier wrote it; remove the file, if no cluster runs this submission any more"

SubmissionId = Annotated[str, Field(pattern=rf"^espalier-{NAME.pattern}-[0-9]{{1,9}}-[0-9a-f]{{8}}$")]
Kind = TypeVar("Kind")
_Text = Annotated[str, Field(max_length=1000)]
_Word = Annotated[str, Field(pattern=r"^[!-~]{0,255}$")]


class Submission(Versioned):
    """One submission.

    Attributes:
        id: what the cluster knows it by: `espalier-<name>-<number>-<random>`.
        job_file: name of its resolved job in the same folder.
        session: the cluster's name for itself, which is new whenever its head is started; the number counts for one.
        address: of the cluster, as the user gave it.
        submitted: unix seconds, by the client's clock.
        versions: of Python, Ray and espalier where it was submitted.
    """

    id: SubmissionId
    number: Annotated[int, Field(ge=1, lt=10**9)]
    job_file: Annotated[str, Field(pattern=r"^job-[0-9a-f]{32}\.json$")]
    session: _Word
    address: _Word
    submitted: Time
    versions: Annotated[dict[_Word, _Word], Field(max_length=16)]


class BegunFile(Versioned):
    """That a driver has taken a submission up: where, and when by its clock."""

    host: _Text
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    time: Time


class EndedFile(Versioned):
    """How a driver ended: its exit code, a sentence where there is one, and when by its clock."""

    exit_code: Annotated[int, Field(ge=0, le=255)]
    reason: _Text
    time: Time


@dataclass(frozen=True)
class Submissions:
    """The submissions of one run."""

    run: RunFolder

    def newest(self) -> Submission | None:
        """The last submission; None when there is none."""
        number = self._last_number()
        return self._read(Submission, f"{number:06d}.json") if number else None

    def named(self, submission_id: str) -> Submission | None:
        """The submission of an id; None when there is none."""
        number = submission_id.rpartition("-")[0].rpartition("-")[2]
        found = self._read(Submission, f"{int(number):06d}.json") if number.isdecimal() else None
        return found if found is not None and found.id == submission_id else None

    def add(self, job: Job, *, session: str, address: str, versions: dict[str, str]) -> Submission | None:
        """Write the next submission durably, after its job; None when another client has just written one."""
        added, content = self.draft(job, session=session, address=address, versions=versions)
        files = self.run.files
        files.make_folder(FOLDER)
        files.replace(f"{FOLDER}/{added.job_file}", content)
        try:
            files.publish(self._path(added, "json"), added.model_dump_json().encode())
        except FileExistsError:
            return None
        return added

    def draft(self, job: Job, *, session: str, address: str, versions: dict[str, str]) -> tuple[Submission, bytes]:
        """The next submission, and the content of its job file. Nothing is written."""
        number = self._last_number() + 1
        content = json.dumps(resolved(job), indent=2, allow_nan=False).encode()
        drafted = Submission(
            id=f"espalier-{job.name}-{number}-{secrets.token_hex(4)}",
            number=number,
            job_file=f"job-{hashlib.sha256(content).hexdigest()[:32]}.json",
            session=session,
            address=address,
            submitted=time.time(),
            versions=versions,
        )
        return drafted, content

    def withdraw(self, submission: Submission) -> None:
        """Remove a submission that no driver has taken up, last the file that makes it one."""
        for kind in ("found.json", "ended.json", "json"):
            self.run.remove(self._path(submission, kind))

    def job_path(self, submission: Submission) -> str:
        """Absolute path of the resolved job."""
        return str(self.run.path / FOLDER / submission.job_file)

    def job(self, submission: Submission) -> Job:
        """The resolved job of a submission.

        Raises:
            RefusedInput: this version cannot read it, or it is gone.
        """
        values = self._read(dict[str, Any], submission.job_file)
        if values is None:
            path = self.job_path(submission)
            raise RefusedInput([Fault(path, None, "the job of a submission; submit the job file again")])
        return Job.model_validate_json(json.dumps(values))

    def findings(self, submission: Submission) -> Findings | None:
        """What the driver found out about its cluster; None when it has not looked yet."""
        return self._read(Findings, f"{submission.number:06d}.found.json")

    def note_findings(self, submission: Submission, findings: Findings) -> None:
        self.run.files.replace(self._path(submission, "found.json"), findings.model_dump_json().encode())

    def begun(self, submission: Submission) -> BegunFile | None:
        return self._read(BegunFile, f"{submission.number:06d}.begun.json")

    def begin(self, submission: Submission, *, host: str, pid: int) -> None:
        mark = BegunFile(host=host[:1000], pid=pid, time=time.time())
        self.run.files.replace(self._path(submission, "begun.json"), mark.model_dump_json().encode())

    def renew(self, submission: Submission) -> None:
        """Show that the driver of a submission lives, by the time of change of the file that it began with."""
        with suppress(OSError):  # away for a moment, or removed
            os.utime(self.run.path / self._path(submission, "begun.json"))

    def renewed(self, submission: Submission) -> float | None:
        """When its driver was last heard of, in unix seconds by the storage's clock; None before it has begun."""
        try:
            return (self.run.path / self._path(submission, "begun.json")).lstat().st_mtime
        except FileNotFoundError:
            return None

    def ended(self, submission: Submission) -> EndedFile | None:
        return self._read(EndedFile, f"{submission.number:06d}.ended.json")

    def end(self, submission: Submission, *, exit_code: int, reason: str) -> None:
        mark = EndedFile(exit_code=exit_code, reason=reason[:1000], time=time.time())
        self.run.files.replace(self._path(submission, "ended.json"), mark.model_dump_json().encode())

    def _last_number(self) -> int:
        names = map(_NUMBER.fullmatch, self.run.files.list(FOLDER))
        return max((int(found[1]) for found in names if found), default=0)

    def _path(self, submission: Submission, kind: str) -> str:
        return f"{FOLDER}/{submission.number:06d}.{kind}"

    def _read(self, kind: type[Kind], name: str) -> Kind | None:
        path = self.run.path / FOLDER / name
        return read_record(kind, path, what="record of a submission", remedy=_REMEDY, max_bytes=_MAX_BYTES)
