"""Work in a process of its own that is ended when it stands still: a crash or a hang costs one case."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

_MEMORY_BYTES = 12 * 2**30  # of address space: what reads without a bound meets it before the machine does


@dataclass(frozen=True)
class Case:
    """One spoiled input, and what was wrong with what came out; nothing when `fault` is empty."""

    group: str
    command: str
    file: str
    mutation: str
    fault: str
    text: str = ""


class Journal:
    """What a watched process writes down as it goes on, so that it is not lost with it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, case: Case) -> None:
        """This comes next; whatever ends the process now is its fault."""
        self._add("begun", case)

    def end(self, case: Case) -> None:
        self._add("ended", case)

    def _add(self, what: str, case: Case) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps([what, asdict(case)]) + "\n")

    def read(self) -> tuple[list[Case], Case | None]:
        """The cases that ended, and the one that did not."""
        begun, ended = None, []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            what, case = json.loads(line)
            begun = Case(**case) if what == "begun" else None
            if what == "ended":
                ended.append(Case(**case))
        return ended, begun


def watched(work: Callable[[Journal], None], journal: Path, *, patience_seconds: float) -> list[Case]:
    """Do work in a forked process; cases, the last of which may have ended it.

    Args:
        patience_seconds: how long nothing may be written to the journal.
    """
    journal.unlink(missing_ok=True)
    process = multiprocessing.get_context("fork").Process(target=_bounded, args=(work, Journal(journal)))
    process.start()
    size, since = -1, time.monotonic()
    hung = False
    while process.is_alive():
        process.join(0.05)
        now = journal.stat().st_size if journal.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        elif time.monotonic() - since > patience_seconds and process.pid:
            hung = True
            os.kill(process.pid, signal.SIGKILL)
            process.join()
    ended, open_case = Journal(journal).read()
    if open_case is not None:
        fault = f"a hang of {patience_seconds:.0f} s" if hung else f"the process ended with {process.exitcode}"
        ended.append(Case(**{**asdict(open_case), "fault": fault}))
    elif process.exitcode:
        raise RuntimeError(f"the harness itself failed; see {journal}")
    return ended


def _bounded(work: Callable[[Journal], None], journal: Journal) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    work(journal)
