"""What was found out about a cluster before a run starts on it: a line for each check, and the faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from espalier.config.base import Record
from espalier.config.faults import Fault
from espalier.storage.names import Time
from espalier.storage.records import Versioned

LONGEST = 1000
_MOST_CHECKS = 32
_MOST_FAULTS = 64
_Text = Annotated[str, Field(max_length=LONGEST)]


class Check(Record):
    """One line of the table.

    Attributes:
        state: `warned`: the run can start, but not as asked for; `waits`: it can start once others have left.
        found: what was found, in words.
    """

    what: _Text
    state: Literal["good", "bad", "warned", "waits"]
    found: _Text


class RecordedFault(Record):
    """A `Fault` whose value is given in words."""

    path: _Text
    given: _Text
    allowed: _Text
    near: _Text | None = None


class Findings(Versioned):
    """All that was checked, and when by the clock of the process that did.

    Attributes:
        faults: why the run was refused; empty when it may start.
    """

    checks: Annotated[tuple[Check, ...], Field(max_length=_MOST_CHECKS)]
    faults: Annotated[tuple[RecordedFault, ...], Field(max_length=_MOST_FAULTS)] = ()
    time: Time

    @staticmethod
    def of(checks: Sequence[Check], faults: Sequence[Fault], *, time: float) -> Findings:
        """Findings as they can be written down: no more of them, and no longer, than a reader accepts."""
        recorded = [
            RecordedFault(
                path=one.path[:LONGEST], given=one.found[:LONGEST], allowed=one.allowed[:LONGEST], near=one.near
            )
            for one in faults[:_MOST_FAULTS]
        ]
        return Findings(checks=tuple(checks[:_MOST_CHECKS]), faults=tuple(recorded), time=time)

    def as_faults(self) -> list[Fault]:
        return [Fault(one.path, None, one.allowed, near=one.near, given=one.given) for one in self.faults]
