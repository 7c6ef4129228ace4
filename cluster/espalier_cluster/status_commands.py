"""The commands that look at runs in a storage, with or without a cluster: status, list, wait."""

from __future__ import annotations

import json
import os
import re
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.status.standing import STATES, Standing
from espalier.tracking.number_format import plain_text
from espalier_cluster.cluster_commands import Named, Storage
from espalier_cluster.named_run import STORAGE, find_run
from espalier_cluster.terminal import open_terminal, say

TIMED_OUT = 124
"""Exit code of `wait` when the run still goes on, as of coreutils' `timeout`."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SPAN = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smhdw])")
_AsJson = Annotated[bool, typer.Option("--json", help="For scripts: see README.md, `Status as JSON`.")]


def status(run: Named, storage: Storage = None, as_json: _AsJson = False) -> None:
    """Tell how a run stands, from its folder: also when its cluster is gone.

    Exit codes: 0 told, whatever the state is; 2 no such run. `espalier wait` returns the run's own.

    Example: espalier status slim --storage /shared/runs
    """
    from espalier.status.liveness import is_renewed
    from espalier.status.run_status import read_status
    from espalier_cluster.show_status import show_status, status_json

    folder = find_run(run, storage)
    found = read_status(folder, watch=partial(is_renewed, folder))
    if as_json:
        print(json.dumps(status_json(found, now=time.time()), indent=2, allow_nan=False))
    else:
        show_status(open_terminal(), found, now=time.time())


def _states_beginning(word: str) -> list[str]:
    return [state for state in STATES if state.startswith(word)]


def list_runs(
    storage: Annotated[
        Path | None, typer.Argument(help="The storage; left out: $ESPALIER_STORAGE, or the current folder.")
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="Only runs in this state; may be given again.", autocompletion=_states_beginning),
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs heard of since then: `90m`, `12h`, `3d`, `2w`, `2026-01-31`.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """List the runs of a storage, those heard of last first. Folders that no run has made are named.

    Exit codes: 0 listed; 2 no such storage. The runs of the seeds of a job are in the folder of that: list it.

    Example: espalier list /shared/runs --state running --state waiting --since 12h
    """
    from espalier.status.run_list import list_runs as read_runs
    from espalier_cluster.show_status import list_json, show_list

    place, now = (storage or Path(os.environ.get(STORAGE) or ".")).absolute(), time.time()
    if not place.is_dir():
        raise RefusedInput([Fault("storage", str(place), "the folder that runs are kept in")])
    if unknown := [word for word in state or () if word not in STATES]:
        raise RefusedInput([Fault("--state", unknown[0], f"one of {', '.join(STATES)}", nearest(unknown[0], STATES))])
    oldest = 0.0 if since is None else _since(since, now=now)
    content = read_runs(place, now=now)
    runs = [line for line in content.runs if not state or line.state in state]
    runs = [line for line in runs if since is None or (line.heard is not None and line.heard >= oldest)]
    if as_json:
        print(json.dumps(list_json(place, runs, content.strangers, now=now), indent=2, allow_nan=False))
    else:
        show_list(open_terminal(), runs, content.strangers, now=now)


def wait(
    run: Named,
    storage: Storage = None,
    timeout: Annotated[
        float | None, typer.Option(min=0.0, help="Seconds; then end with 124, and leave the run alone.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Wait until a run has ended, and end with its exit code. A storage that is away for a moment is waited for.

    Exit codes: 0 done, 1 error, 2 refused, 3 gate failed, 75 stopped or lost but resumable, 124 time-out.

    Example: espalier wait slim --storage /shared/runs --timeout 86400
    """
    from espalier.status.wait import wait as wait_for

    folder = find_run(run, storage)
    told = (lambda standing: None) if as_json else _tell
    end = wait_for(folder, timeout_seconds=timeout, on_change=told)
    if as_json:
        from espalier.status.run_status import read_status
        from espalier_cluster.show_status import status_json

        print(json.dumps(status_json(read_status(folder), now=time.time()), indent=2, allow_nan=False))
    raise SystemExit(TIMED_OUT if end is None or end.exit_code is None else end.exit_code)


def _tell(standing: Standing) -> None:
    from espalier_cluster.show_status import state_text

    say(open_terminal(), state_text(standing))


def _since(text: str, *, now: float) -> float:
    """Unix seconds of `12h` ago, or of the begin of a day, or of a time of it."""
    if found := _SPAN.fullmatch(text):
        return now - float(found[1]) * _UNITS[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        allowed = "a time span as `90m`, `12h`, `3d`, `2w`, or a date as 2026-01-31 or 2026-01-31T12:00"
        raise RefusedInput([Fault("--since", plain_text(text), allowed)]) from None
