"""The driver of a run that a scheduler has started, such as KubeRay or Slurm, and starts again where it has failed.

Its exit codes tell the scheduler what to do: 75, start it again; 0, the run is done, or a person has stopped it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from espalier.checkpoint.lock import Holder, living_holder
from espalier.config.faults import RefusedInput
from espalier.jobs.job import Job
from espalier.stages.ownership import claim, require_own
from espalier.stages.run_folder import RunFolder
from espalier_cluster.driver_log import mirrored
from espalier_cluster.submit import own_versions
from espalier_cluster.terminal import open_terminal, say
from espalier_cluster.told import told

_LOOK_SECONDS = 1.0
_PATIENCE_SECONDS = 120.0
"""Longer than it takes until the lock of a driver whose machine has gone may be taken over."""


@dataclass(frozen=True)
class Waiting:
    """How the driver waits; tests replace it."""

    sleep: Callable[[float], None] = field(default=time.sleep)
    clock: Callable[[], float] = field(default=time.monotonic)


def drive_scheduled(job: Job, action: Callable[[], object]) -> int:
    """Carry out a run for a scheduler; returns its exit code. What is printed is kept in the run's folder, too.

    Args:
        action: the run itself.

    Raises:
        RefusedInput: the run's folder is none, or cannot be made.
    """
    folder = RunFolder.of(job)
    require_own(folder)
    folder.make(job)
    claim(folder, versions=own_versions())
    await_earlier_driver(folder, Waiting(), tell=lambda text: say(open_terminal(), text))
    with mirrored(folder):
        return told(action).code


def await_earlier_driver(folder: RunFolder, waiting: Waiting, *, tell: Callable[[str], None]) -> None:
    """Wait until nobody holds the run's lock, or somebody has held it for longer than a dead one can.

    A scheduler may start a run again within seconds, while the lock of the driver before, on a machine that has gone,
    counts as held for a minute.
    """
    deadline = waiting.clock() + _PATIENCE_SECONDS
    was_told = False
    while (holder := _holder(folder)) is not None and waiting.clock() < deadline:
        if not was_told:
            tell(f"waiting for the driver before this one, process {holder.pid} on host {holder.host}")
            was_told = True
        waiting.sleep(_LOOK_SECONDS)


def _holder(folder: RunFolder) -> Holder | None:
    try:
        return living_holder(folder.path / "lock")
    except RefusedInput:
        return None  # something else stands in its place, which the run itself refuses
