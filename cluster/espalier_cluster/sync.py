"""`espalier sync`: send what trackers such as W&B lack of a run, from its record."""

from __future__ import annotations

import time

from rich.console import Console

from espalier.checkpoint.lock import RunLock
from espalier.jobs.job import Job
from espalier.jobs.tracker import TRACKERS
from espalier.stages.controller import ExitCode
from espalier.stages.ownership import require_own
from espalier.stages.run_folder import RunFolder
from espalier.tracking.events import EVENTS, Event, EventLog
from espalier.tracking.follow import Follower
from espalier.tracking.jsonl import read_known
from espalier.tracking.mirror import Access, mirrors
from espalier_cluster.environment import default_variables, hide_secrets, wandb_folders
from espalier_cluster.terminal import say


def sync(folder: RunFolder, job: Job, console: Console) -> ExitCode:
    """Send each tracker of the job what it lacks; an error when one has not taken all of it.

    Raises:
        RefusedInput: the run goes on, so its driver sends what there is.
    """
    require_own(folder)
    began = time.time()
    names = [name for kind in TRACKERS.values() for name in kind.secrets]
    events = EventLog(folder.path / EVENTS)
    with (
        RunLock(folder.path / "lock", job=job.name),
        hide_secrets(names) as secrets,
        default_variables(wandb_folders(folder.path)),
    ):
        for title, opened in mirrors(folder.path, job, events, access=Access(secrets), sync=True):
            mirror = opened()
            state = "is up to date" if mirror.is_open else "is switched off"
            mirror.receive(Follower(folder.path).poll())
            mirror.close()
            say(console, mirror.advice() or f"{title} {state}")
    told = [
        one.message for one in read_known(folder.path / EVENTS, Event) if one.kind == "mirror" and one.time >= began
    ]
    for message in told:
        say(console, message, style="yellow")
    return ExitCode.ERROR if told else ExitCode.DONE
