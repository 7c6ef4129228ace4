"""The run's record of its attempts, `attempts.jsonl`: each order, the hosts of its workers, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from espalier.stages.failures import FailureCause
from espalier.storage.names import Count, StageName, Time
from espalier.tracking import jsonl

ATTEMPTS = Path("records", "attempts.jsonl")
"""Path of the record in a run's folder."""

AttemptEnd = FailureCause | Literal["done", "gate_failed"]

_MAX_HOSTS = 4096
_LONGEST = 500
_READ_BYTES = 2**23
_Host = Annotated[str, Field(max_length=300)]
_Hosts = Annotated[Mapping[_Host, Count], Field(max_length=_MAX_HOSTS)]


@dataclass(frozen=True)
class AttemptEntry:
    """One line: an attempt was ordered, its workers have started, or it has ended.

    Attributes:
        time: unix seconds, by the driver's clock.
        hosts: host -> number of workers on it; of `placed`.
        end: of `ended`; the causes of failures are those of `StageFailed`.
        message: why it ended, for a person.
    """

    attempt: Count
    stage: StageName
    time: Time
    state: Literal["ordered", "placed", "ended"]
    hosts: _Hosts = field(default_factory=dict)
    end: AttemptEnd | None = None
    message: str = ""


@dataclass(frozen=True)
class Attempt:
    """What is known of one attempt.

    Attributes:
        began, ended: unix seconds; `ended` None for one that goes on, or whose driver was killed.
    """

    number: int
    stage: str
    began: float
    hosts: Mapping[str, int]
    ended: float | None = None
    end: AttemptEnd | None = None
    message: str = ""

    @property
    def num_workers(self) -> int:
        return sum(self.hosts.values())


class AttemptLog:
    """Appends the entries of one driver."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stage, self._attempt = "", 0
        jsonl.prepare(path)

    def ordered(self, stage: str, attempt: int) -> None:
        self._stage, self._attempt = stage, attempt
        self._append(AttemptEntry(attempt, stage, time.time(), "ordered"))

    def placed(self, hosts: Mapping[str, int]) -> None:
        """Record the hosts of the workers of the current attempt: host -> number of workers."""
        kept = dict(sorted(hosts.items())[:_MAX_HOSTS])
        if self._attempt:
            self._append(AttemptEntry(self._attempt, self._stage, time.time(), "placed", hosts=kept))

    def ended(self, end: AttemptEnd, message: str = "") -> None:
        """Record the end of the current attempt; does nothing when there is none."""
        if self._attempt:
            entry = AttemptEntry(self._attempt, self._stage, time.time(), "ended", end=end, message=message[:_LONGEST])
            self._attempt = 0
            self._append(entry)

    def _append(self, entry: AttemptEntry) -> None:
        values = asdict(entry)
        jsonl.append(self._path, {name: value for name, value in values.items() if value not in ({}, None, "")})


def read_attempts(path: Path) -> list[Attempt]:
    """The attempts of a run, in order; of a very long record the last 8 MiB. Lines that cannot be read are skipped."""
    found: dict[int, Attempt] = {}
    for entry in jsonl.read_last(path, AttemptEntry, max_bytes=_READ_BYTES):
        known = found.get(entry.attempt, Attempt(entry.attempt, entry.stage, entry.time, {}))
        if entry.state == "ordered":
            known = Attempt(entry.attempt, entry.stage, entry.time, {})
        elif entry.state == "placed":
            known = replace(known, hosts=entry.hosts)
        else:
            known = replace(known, ended=entry.time, end=entry.end, message=entry.message[:_LONGEST])
        found[entry.attempt] = known
    return [found[number] for number in sorted(found)]
