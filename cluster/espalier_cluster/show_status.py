"""Print how runs stand: lines for a person, and JSON of a stable shape for scripts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from espalier.status.progress import StageProgress
from espalier.status.run_list import RunLine
from espalier.status.run_status import LastCheckpoint, RunStatus
from espalier.status.standing import Standing
from espalier.tracking.attempts import Attempt
from espalier.tracking.number_format import count_text, duration_text, number_text
from espalier_cluster.show import goodput_text
from espalier_cluster.tables import show_table
from espalier_cluster.terminal import say

SCHEMA_VERSION = 1
"""Of the JSON. Keys are added without a new number; one that goes or changes its meaning brings a new number."""

_SHOWN_ATTEMPTS, _JSON_ATTEMPTS = 5, 100
_SHOWN_HOSTS, _SHOWN_STRANGERS = 8, 8
_STYLES = {
    "running": "green", "done": "green", "waiting": "yellow", "stopping": "yellow", "stopped": "yellow",
    "failed": "red", "gate_failed": "red", "refused": "red", "lost": "red", "unreadable": "red",
}  # fmt: skip
Json = dict[str, Any]


def show_status(console: Console, status: RunStatus, *, now: float) -> None:
    """Print a run: a line on its state, then one for each thing that is known."""
    standing = status.standing
    say(console, f"{status.folder.path.name}: {state_text(standing)}", style=_STYLES[standing.state])
    for label, text in _lines(status, now=now):
        say(console, f"  {label:<11} {text}")


def state_text(standing: Standing) -> str:
    """`running`, `waiting for the workers to start`, `failed (the reason)`."""
    if standing.waits_for:
        return f"waiting for {standing.waits_for}"
    word = standing.state.replace("_", " ")
    return f"{word} ({standing.reason})" if standing.reason else word


def _lines(status: RunStatus, *, now: float) -> Iterator[tuple[str, str]]:
    standing, sign = status.standing, status.standing.sign
    if status.stage.num_stages:
        yield "stage", _stage_text(status.stage, goes_on=standing.goes_on)
    for line in status.seeds:
        yield "seed", f"{line.name}: {line.state.replace('_', ' ')}{_place_text(line.stage)}"
    if status.checkpoint is not None:
        yield "checkpoint", _checkpoint_text(status.checkpoint)
    if sign is not None:
        yield "last sign", f"{age_text(sign.age_seconds)} from process {sign.pid} on {sign.host}"
    if status.hosts:
        yield "workers", _hosts_text(status.hosts)
    if status.attempts:
        counts = f"{status.num_failures} failed, {status.num_preemptions} preempted"
        yield "attempts", f"{len(status.attempts)}: {counts}"
        for attempt in status.attempts[-_SHOWN_ATTEMPTS:]:
            yield "", _attempt_text(attempt)
    if status.goodput is not None and status.goodput.wall:
        yield "goodput", goodput_text(status.goodput)
    yield from (status.links or {}).items()
    for note in status.notes:
        yield "note", note
    if status.next_step:
        yield "next", status.next_step


def _stage_text(stage: StageProgress, *, goes_on: bool) -> str:
    if not stage.name or stage.num_done == stage.num_stages:
        return f"{stage.num_done} of {stage.num_stages} are done"
    parts = [f"{stage.number} of {stage.num_stages}, {stage.name} ({stage.kind})"]
    if stage.step is not None:
        parts.append(f"step {stage.step} of {stage.num_steps}")
    if stage.loss is not None:
        parts.append(f"loss {number_text(stage.loss)}")
    if stage.tokens_per_second is not None:
        parts.append(f"{count_text(stage.tokens_per_second)} tokens/s")
    if goes_on and stage.time_state in ("saving", "restarting", "hanging"):
        parts.append(stage.time_state)
    if goes_on and stage.remaining_seconds:
        parts.append(f"{duration_text(stage.remaining_seconds)} left")
        if stage.run_remaining_seconds and stage.run_remaining_seconds > stage.remaining_seconds:
            parts.append(f"about {duration_text(stage.run_remaining_seconds)} for the run")
    return "; ".join([*parts, *([stage.activity] if stage.activity else [])])


def _place_text(stage: StageProgress | None) -> str:
    if stage is None or not stage.name:
        return ""
    step = f", step {stage.step} of {stage.num_steps}" if stage.step is not None else ""
    return f", stage {stage.number} of {stage.num_stages} {stage.name}{step}"


def _checkpoint_text(found: LastCheckpoint) -> str:
    by = f", by {found.num_workers} worker{'s' * (found.num_workers != 1)}" if found.num_workers else ""
    age = f", {age_text(found.age_seconds)}" if found.age_seconds is not None else ""
    return f"step {found.step} of {found.stage}{age}{by}"


def _hosts_text(hosts: Mapping[str, int]) -> str:
    shown = [f"{num} on {host}" for host, num in list(hosts.items())[:_SHOWN_HOSTS]]
    more = f" and {len(hosts) - _SHOWN_HOSTS} more hosts" if len(hosts) > _SHOWN_HOSTS else ""
    return f"{sum(hosts.values())}: {', '.join(shown)}{more}"


def _attempt_text(attempt: Attempt) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt.began))
    end = "" if attempt.end is None else f" {attempt.end.replace('_', ' ')}"
    lasted = "" if attempt.ended is None else f" after {duration_text(max(0.0, attempt.ended - attempt.began))}"
    message = f": {attempt.message}" if attempt.message else ""
    return f"{attempt.number} {attempt.stage}, {when}{end}{lasted}{message}"


def age_text(seconds: float) -> str:
    """`4.1 s ago`; of a time in the future that it is, because the clocks differ then."""
    return f"{duration_text(seconds)} ago" if seconds >= 0 else f"{duration_text(-seconds)} in the future"


def show_list(console: Console, runs: Sequence[RunLine], strangers: Sequence[str], *, now: float) -> None:
    """Print a line for each run, and the names of folders that no run has made."""
    if runs:
        headings = ("run", "state", "stage", "step", "heard", "since", "")
        show_table(console, headings, [_row(line, now=now) for line in runs], right=("heard",))
    else:
        say(console, "no runs")
    if strangers:
        more = f" and {len(strangers) - _SHOWN_STRANGERS} more" if len(strangers) > _SHOWN_STRANGERS else ""
        say(console, f"no runs are in: {', '.join(strangers[:_SHOWN_STRANGERS])}{more}", style="dim")


def _row(line: RunLine, *, now: float) -> tuple[str, ...]:
    stage = line.stage
    place = f"{stage.number}/{stage.num_stages} {stage.name}" if stage and stage.name else ""
    step = f"{stage.step}/{stage.num_steps}" if stage and stage.step is not None else ""
    heard = "" if line.heard is None else age_text(now - line.heard)
    since = "" if line.began is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(line.began))
    return line.name, line.state.replace("_", " "), place, step, heard, since, line.reason[:60]


def status_json(status: RunStatus, *, now: float) -> Json:
    """A run as JSON values; README.md documents the keys."""
    standing, goodput = status.standing, status.goodput
    checkpoint = status.checkpoint
    return {
        "schema_version": SCHEMA_VERSION,
        "name": status.folder.path.name,
        "folder": str(status.folder.path),
        **_standing_json(standing),
        "stage": _stage_json(status.stage),
        "checkpoint": None if checkpoint is None else asdict(checkpoint),
        "num_attempts": len(status.attempts),
        "num_failures": status.num_failures,
        "num_preemptions": status.num_preemptions,
        "attempts": [_attempt_json(attempt) for attempt in status.attempts[-_JSON_ATTEMPTS:]],
        "hosts": dict(status.hosts or {}),
        "seeds": [_line_json(line, now=now) for line in status.seeds],
        "links": dict(status.links or {}),
        "goodput": None
        if goodput is None
        else {"ratio": goodput.ratio, **{f"{name}_seconds": value for name, value in asdict(goodput).items()}},
        "next_step": status.next_step,
        "notes": list(status.notes),
    }


def list_json(storage: Path, runs: Sequence[RunLine], strangers: Sequence[str], *, now: float) -> Json:
    """The runs of a storage as JSON values."""
    lines = [_line_json(line, now=now) for line in runs]
    return {"schema_version": SCHEMA_VERSION, "storage": str(storage), "runs": lines, "not_runs": list(strangers)}


def _standing_json(standing: Standing) -> Json:
    sign = standing.sign
    signed = {"age_seconds": sign.age_seconds, "host": sign.host, "pid": sign.pid} if sign else None
    return {
        "state": standing.state,
        "exit_code": standing.exit_code,
        "reason": standing.reason,
        "waits_for": standing.waits_for,
        "last_sign": signed,
        "submission": standing.submission.id if standing.submission else None,
    }


def _stage_json(stage: StageProgress | None) -> Json | None:
    return asdict(stage) if stage is not None and stage.num_stages else None


def _attempt_json(attempt: Attempt) -> Json:
    return {
        "attempt": attempt.number,
        "stage": attempt.stage,
        "began_unix_seconds": attempt.began,
        "ended_unix_seconds": attempt.ended,
        "end": attempt.end,
        "message": attempt.message,
        "hosts": dict(attempt.hosts),
    }


def _line_json(line: RunLine, *, now: float) -> Json:
    return {
        "name": line.name,
        "folder": str(line.folder),
        "state": line.state,
        "reason": line.reason,
        "stage": _stage_json(line.stage),
        "heard_age_seconds": None if line.heard is None else now - line.heard,
        "began_unix_seconds": line.began,
    }
