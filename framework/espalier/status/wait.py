"""Wait until a run has ended, from its folder alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.status.liveness import is_renewed
from espalier.status.standing import Standing, read_standing

_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.5, 5.0


@dataclass(frozen=True)
class Waiting:
    """How `wait` passes time; tests replace it.

    Attributes:
        away_seconds: for which a storage may be away before that ends the waiting.
    """

    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)
    away_seconds: float = 600.0


def wait(
    folder: RunFolder,
    *,
    timeout_seconds: float | None = None,
    waiting: Waiting | None = None,
    on_change: Callable[[Standing], None] = lambda standing: None,
) -> Standing | None:
    """Wait until a run has ended; returns how it stands then, or None after the time-out.

    A run counts as lost after its driver was watched for longer than a living one is silent, by this host's clock, so
    clocks that differ do not end the waiting.

    Args:
        timeout_seconds: None for ever.
        on_change: called with the first standing, and when the state or what is waited for changes.

    Raises:
        OSError: the storage was away for too long.
        RefusedInput: the run's files cannot be read for as long.
    """
    waiting = waiting or Waiting()
    deadline = math.inf if timeout_seconds is None else waiting.clock() + timeout_seconds
    away_since: float | None = None
    pause, told = _FIRST_LOOK_SECONDS, ("", "")
    while True:
        try:
            if not folder.ids():
                raise FileNotFoundError(f"{folder.path} is away: it holds no run.json")
            standing = read_standing(folder)
            away_since = None
            if (standing.state, standing.waits_for) != told:
                told = standing.state, standing.waits_for
                on_change(standing)
            if not standing.goes_on and (not _may_live(standing) or not is_renewed(folder, sleep=waiting.sleep)):
                return standing
        except (OSError, RefusedInput):
            away_since = waiting.clock() if away_since is None else away_since
            if waiting.clock() - away_since > waiting.away_seconds:
                raise
        if (left := deadline - waiting.clock()) <= 0:
            return None
        waiting.sleep(min(pause, left))
        pause = min(1.5 * pause, _LONGEST_LOOK_SECONDS)


def _may_live(standing: Standing) -> bool:
    """Whether it is only the age of the last sign that speaks for the driver's end."""
    return standing.state == "lost" and not (standing.sign is not None and standing.sign.is_certain)
