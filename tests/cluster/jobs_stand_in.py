"""A Jobs server in this process, what its drivers would leave in a run's folder, and a job to submit."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from espalier.jobs.job import Job
from espalier.jobs.load import read_job
from espalier.stages.run_folder import RunFolder
from espalier.stages.submissions import Submission, Submissions
from espalier_cluster.jobs_server import JobState, ServerAway
from espalier_cluster.submit import Client

Act = Callable[["StandIn", str], None]


@dataclass
class StandIn:
    """Keeps jobs in a dict. `on_start` says what the driver of a job does; `away` how many requests fail."""

    session: str = "session_1"
    ray_version: str = field(default_factory=lambda: version("ray"))
    address: str = "10.0.0.5:6379"
    on_start: Act = lambda server, job: server.begin(job)
    jobs: dict[str, JobState] = field(default_factory=dict)
    entrypoints: dict[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    logs: str = ""
    away: int = 0

    def start(self, job: str, entrypoint: str, metadata: dict[str, str]) -> None:
        self._answer()
        if job not in self.jobs:
            self.jobs[job] = JobState("RUNNING", ray_job="01000000")
            self.entrypoints[job] = entrypoint
            self.on_start(self, job)

    def look(self, job: str) -> JobState | None:
        self._answer()
        return self.jobs.get(job)

    def log(self, job: str) -> str:
        self._answer()
        return self.logs

    def stop(self, job: str) -> None:
        self._answer()
        self.stopped.append(job)
        self.jobs[job] = JobState("STOPPED", ray_job="01000000")

    def remove(self, job: str) -> None:
        self._answer()
        self.removed.append(job)
        self.jobs.pop(job)

    def leftovers(self, ray_job: str) -> list[str]:
        self._answer()
        return [self.left.pop()] if self.left else []

    def fail(self, job: str, *, exit_code: int, log: str = "") -> None:
        """The job ends before its driver has taken it up."""
        self.jobs[job] = JobState("FAILED", exit_code=exit_code)
        self.logs = log

    def begin(self, job: str) -> None:
        self.submissions(job).begin(self.submission(job), host="head", pid=7)

    def end(self, job: str, *, exit_code: int = 0) -> None:
        """The driver ends in order."""
        self.submissions(job).end(self.submission(job), exit_code=exit_code, reason="")
        self.jobs[job] = JobState("SUCCEEDED" if exit_code == 0 else "FAILED", ray_job="01000000")

    def submissions(self, job: str) -> Submissions:
        return Submissions(RunFolder(Path(shlex.split(self.entrypoints[job])[2]).parent.parent))

    def submission(self, job: str) -> Submission:
        found = self.submissions(job).named(job)
        assert found is not None
        return found

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise ServerAway("the cluster does not answer")


class Clock:
    """Time that passes only while somebody sleeps; `on_sleep` is called with the time then."""

    def __init__(self, on_sleep: Callable[[float], None] = lambda now: None) -> None:
        self.now = 0.0
        self.on_sleep = on_sleep

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep(self.now)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    path = tmp_path / "job.yaml"
    path.write_text(
        json.dumps(
            {
                "name": "slim",
                "storage": str(tmp_path / "shared"),
                "data": {"train": {"source": "text", "files": ["a.txt"]}, "valid": {"fraction": 0.1}},
                "stages": [{"name": "parent", "kind": "load", "model": "./model"}],
            }
        )
    )
    return read_job(path)


def client(server: StandIn, **changes: Any) -> Client:
    clock = Clock()
    return replace(Client(server, sleep=clock.sleep, clock=clock), **changes)
