"""Where a run is: its stage, step, loss, speed and expected end, from the ends of its records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from espalier.stages.files import PlanEntry
from espalier.stages.run_folder import RunFolder
from espalier.tracking import jsonl
from espalier.tracking.events import EVENTS, Event
from espalier.tracking.follow import News
from espalier.tracking.record import STEPS, StepRecord
from espalier.tracking.stage_status import StageStatuses
from espalier.tracking.time_log import TIME, TimeEntry


@dataclass(frozen=True)
class StageProgress:
    """The stage that a run is at.

    Attributes:
        number: 1-based in the plan, of `num_stages`.
        num_done: stages of the plan that have a result; None when that was not asked.
        step: updates done, of `num_steps`; None for a stage without steps, or before the first.
        loss, tokens_per_second: of the last step; None where they are no numbers.
        step_age_seconds: since the last step.
        remaining_seconds: expected until the stage's last step, from the pace of the last twenty.
        run_remaining_seconds: the same until the run's last step, where the plan says what the later stages cost.
        activity: of the last event: what a stage without steps does, or why it failed.
        time_state: as of the time log: `working`, `saving`, `restarting` and so on.
    """

    name: str = ""
    kind: str = ""
    number: int = 0
    num_stages: int = 0
    num_done: int | None = None
    step: int | None = None
    num_steps: int | None = None
    loss: float | None = None
    tokens_per_second: float | None = None
    step_age_seconds: float | None = None
    remaining_seconds: float | None = None
    run_remaining_seconds: float | None = None
    activity: str = ""
    time_state: str = ""


def read_progress(
    folder: RunFolder, entries: Sequence[PlanEntry], stage: str, *, now: float, max_bytes: int, steps_only: bool = False
) -> StageProgress:
    """Where a run is in one of its stages.

    Args:
        entries: of the plan.
        stage: empty before the first order; an unknown one when the plan was replaced.
        max_bytes: to read of the end of each record.
        steps_only: leave out what events and the time log say.
    """
    number = next((place for place, entry in enumerate(entries, start=1) if entry.name == stage), 0)
    if not number:
        return StageProgress(num_stages=len(entries))
    entry = entries[number - 1]
    steps = jsonl.read_last(folder.path / STEPS, StepRecord, max_bytes=max_bytes)
    events = [] if steps_only else jsonl.read_last(folder.path / EVENTS, Event, max_bytes=max_bytes)
    times = [] if steps_only else jsonl.read_last(folder.path / TIME, TimeEntry, max_bytes=max_bytes)
    statuses = StageStatuses([stage])
    own_steps = tuple(step for step in steps if step.stage == stage)
    statuses.apply(News(steps=own_steps, events=tuple(event for event in events if event.stage == stage)))
    status, last = statuses.by_stage[stage], own_steps[-1] if own_steps else None
    remaining = _finite(status.remaining_seconds())
    return StageProgress(
        name=stage,
        kind=entry.kind,
        number=number,
        num_stages=len(entries),
        step=last.step if last else None,
        num_steps=last.num_steps if last else entry.steps,
        loss=_finite(last.loss) if last else None,
        tokens_per_second=_finite(last.tokens_per_second) if last else None,
        step_age_seconds=now - last.time if last else None,
        remaining_seconds=remaining,
        run_remaining_seconds=_of_run(remaining, own_steps, entries[number:]),
        activity=status.message[:1000],
        time_state=times[-1].state if times else "",
    )


def _of_run(remaining: float | None, steps: Sequence[StepRecord], later: Sequence[PlanEntry]) -> float | None:
    """The stage's expected seconds, and those of later stages at this stage's FLOP/s; None where that is not known."""
    if remaining is None or not steps or any(entry.flops is None and entry.steps for entry in later):
        return None
    flops = sum(entry.flops or 0.0 for entry in later)
    per_step = steps[-1].flops / steps[-1].step if steps[-1].step else 0.0
    pace = sum(step.step_seconds for step in steps[-20:]) / len(steps[-20:])
    if not flops:
        return remaining
    return _finite(remaining + flops / per_step * pace) if per_step else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
