"""The table of what was checked before a run starts: gathered by whoever checks, printed for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console

from espalier.config.faults import Fault, RefusedInput
from espalier.stages.findings import LONGEST, Check, Findings
from espalier_cluster.terminal import say

_MARKS = {"good": ("✓", "green"), "bad": ("✗", "red"), "warned": ("!", "yellow"), "waits": ("…", "yellow")}


@dataclass
class Preflight:
    """Gathers checks and faults, and tells when nothing stands in the way of the run any more.

    Attributes:
        on_passed: called once, after the last check.
    """

    on_passed: Callable[[Findings], None] = lambda findings: None
    checks: list[Check] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def note(
        self,
        what: str,
        found: str,
        faults: Iterable[Fault] = (),
        *,
        wrong: str = "",
        state: Literal["good", "warned", "waits"] = "good",
    ) -> None:
        """Add a line: what was found; or, where there are faults, what is wrong, in a few words."""
        of_this = list(faults)
        self.faults += of_this
        text = wrong if of_this and wrong else found
        self.checks.append(Check(what=what, state="bad" if of_this else state, found=text[:LONGEST]))

    def require(self) -> None:
        """Raise `RefusedInput` with all faults, if there are any."""
        if self.faults:
            raise RefusedInput(self.faults)

    def passed(self) -> None:
        self.require()
        self.on_passed(self.findings())

    def findings(self) -> Findings:
        return Findings.of(self.checks, self.faults, time=time.time())


def show_checks(console: Console, checks: Sequence[Check]) -> None:
    """Print a line for each check: a tick, a cross, or what is in between."""
    width = max((len(check.what) for check in checks), default=0)
    for check in checks:
        mark, style = _MARKS[check.state]
        say(console, f"  {mark} {check.what:{width}}  {check.found}", style=style if check.state != "good" else None)
