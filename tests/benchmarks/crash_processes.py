"""Work in forked ranks, one of which may be killed at one of the calls that change a file."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed as dist

MANNERS = ("before", "half", "after")
GRACE_SECONDS, LIMIT_SECONDS, STUCK = 1.0, 120.0, 255
LIBRARY = "ESPALIER_STOP_AT_CALL"


@dataclass(frozen=True)
class Cut:
    """Rank `rank` ends at its call `call`."""

    rank: int = 0
    call: int = -1
    manner: str = "before"


@dataclass
class Outcome:
    """What the ranks of one group of processes came to."""

    values: list[Any]
    faults: list[str] = field(default_factory=list)
    killed: bool = False


def in_processes(work: Callable[[], Any], *, ranks: int, cut: Cut | None = None, root: Path) -> Outcome:
    """Run `work` on forked ranks that meet through a file; `cut` numbers the calls of its rank below `root`."""
    with tempfile.TemporaryDirectory() as meeting:
        children = {
            one: _fork(work, one, ranks, cut if cut and cut.rank == one else None, root, Path(meeting))
            for one in range(ranks)
        }
        statuses = _wait(children)
        outcome = Outcome([None] * ranks)
        for one, status in statuses.items():
            answer = Path(meeting, f"{one}.json")
            if status == 0 and answer.exists():
                outcome.values[one] = json.loads(answer.read_text())
                continue
            fault = Path(meeting, f"{one}.fault")
            outcome.faults.append(fault.read_text() if fault.exists() else f"rank {one} ended with {status}")
        outcome.killed = bool(cut) and statuses[cut.rank] == -signal.SIGKILL
        return outcome


def _fork(work: Callable[[], Any], one: int, ranks: int, cut: Cut | None, root: Path, meeting: Path) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        _silence()
        os.environ |= {"RANK": str(one), "LOCAL_RANK": str(one), "WORLD_SIZE": str(ranks)}
        store = f"file://{meeting}/store"
        dist.init_process_group("gloo", init_method=store, rank=one, world_size=ranks)
        value = _stopped(work, cut, root) if cut else work()
        Path(meeting, f"{one}.json").write_text(json.dumps(value))
        code = 0
    except BaseException as error:  # DCP's own error is no Exception
        told = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1].strip()
        Path(meeting, f"{one}.fault").write_text(told)
    finally:
        os._exit(code)


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _stopped(work: Callable[[], Any], cut: Cut, root: Path) -> list[Any]:
    """The answer of `work` and the kinds of its calls, when it was not killed."""
    library = ctypes.CDLL(os.environ[LIBRARY])
    library.trace.restype = ctypes.c_char_p
    library.arm(os.fsencode(root.resolve()), ctypes.c_long(cut.call), MANNERS.index(cut.manner))
    value = work()
    library.disarm()
    return [value, library.trace().decode()]


def _wait(children: Mapping[int, int]) -> dict[int, int]:
    """Exit codes by rank, -9 for SIGKILL; when one has failed, the others have a little time to end."""
    statuses: dict[int, int] = {}
    running = dict(children)
    deadline = time.monotonic() + LIMIT_SECONDS
    while running:
        for one, child in list(running.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del running[one]
                statuses[one] = os.waitstatus_to_exitcode(status)
                if statuses[one]:
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        if running and time.monotonic() > deadline:
            for one, child in running.items():
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                statuses[one] = STUCK
            break
        time.sleep(0.001)
    return statuses
