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
        return Outcome(end.code if isinstance(end.code, int) else ExitCode.ERROR if end.code else ExitCode.DONE)
    except RefusedInput as refused:
        console = open_terminal(stderr=True)
        for fault in refused.faults:
            say(console, f"refused: {fault}", style="red")
        return Outcome(ExitCode.REFUSED, str(refused.faults[0]))
    except (OSError, DamagedCheckpoint) as error:  # a disk or a store; the message names the file
        is_full = isinstance(error, OSError) and error.errno in FULL
        text = f"error: {error}" + ("; make room, and the same command goes on" if is_full else "")
        say(open_terminal(stderr=True), text, style="red")
        return Outcome(ExitCode.RESUMABLE if is_full else ExitCode.ERROR, str(error))
    except Exception as error:  # a bug: print the traceback, without control characters that its message may hold
        open_terminal(stderr=True).print(traceback.format_exc(), highlight=False, soft_wrap=True)
        return Outcome(ExitCode.ERROR, f"{type(error).__name__}: {error}")
    return Outcome(ExitCode.DONE)
