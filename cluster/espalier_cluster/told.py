"""Run a command's action, print how it failed in a sentence, and turn that into an exit code."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.config.faults import RefusedInput
from espalier.stages.controller import ExitCode
from espalier.stages.failures import FULL
from espalier_cluster.terminal import open_terminal, say


@dataclass(frozen=True)
class Outcome:
    """The exit code of an action, and the first sentence that was printed about its failure."""

    code: int
    reason: str = ""


def told(action: Callable[[], object]) -> Outcome:
    """Carry out an action: refused input and errors become a sentence on stderr and an exit code."""
    try:
        action()
    except SystemExit as end:
        return outcome_of(end)
    except Exception as error:
        _print(error)
        return outcome_of(error)
    return Outcome(ExitCode.DONE)


def outcome_of(error: BaseException) -> Outcome:
    """The exit code that an exception ends the command with, and its reason in a sentence."""
    match error:
        case SystemExit(code=code):
            return Outcome(code if isinstance(code, int) else ExitCode.ERROR if code else ExitCode.DONE)
        case RefusedInput():
            return Outcome(ExitCode.REFUSED, str(error.faults[0]))
        case KeyboardInterrupt():
            return Outcome(ExitCode.RESUMABLE, "stopped at once")
        case OSError() | DamagedCheckpoint():  # a disk or a store; the message names the file
            return Outcome(ExitCode.RESUMABLE if _is_full(error) else ExitCode.ERROR, str(error))
    return Outcome(ExitCode.ERROR, f"{type(error).__name__}: {error}")


def _print(error: Exception) -> None:
    console = open_terminal(stderr=True)
    if isinstance(error, RefusedInput):
        for fault in error.faults:
            say(console, f"refused: {fault}", style="red")
    elif isinstance(error, OSError | DamagedCheckpoint):
        more = "; make room, and the same command goes on" if _is_full(error) else ""
        say(console, f"error: {error}{more}", style="red")
    else:  # a bug: print the traceback, without control characters that its message may hold
        console.print(traceback.format_exc(), highlight=False, soft_wrap=True)


def _is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FULL
