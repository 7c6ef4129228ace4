"""Stages that will be run again although they have a result, with the reason."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping

from espalier.jobs.job import Job
from espalier.planning.changes import changes_for
from espalier.planning.prepare import PreparedJob
from espalier.stages.files import PlanEntry
from espalier.stages.plan import CODE_VERSION, Stage
from espalier.stages.result import StageResult

_WORDS = {
    "data": "what the files of `data` hold has changed",
    "files": "the files that its settings name have changed",
}
_SHOWN = 3
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def done_again(
    prepared: PreparedJob, results: Mapping[str, StageResult], *, before: Job | None, planned: tuple[PlanEntry, ...]
) -> Iterator[tuple[str, str]]:
    """Each stage that will be run again, with a sentence about the reason, in the plan's order.

    Args:
        results: committed ones, by stage.
        before: the job of the last start; None if unknown.
        planned: the plan of the last start.
    """
    entries = {entry.name: entry for entry in planned}
    again: set[str] = set()
    for stage in prepared.plan.stages:
        result = results.get(stage.name)
        if result is None or result.key == stage.key:
            continue
        entry = entries.get(stage.name)
        known = before if entry is not None and entry.key == result.key else None
        reasons = list(_reasons(prepared, stage, known, entry)) if known is not None and entry is not None else []
        reasons = reasons or [f"{name} is" for name in stage.inputs if name in again]
        again.add(stage.name)
        why = ", ".join(reasons[:_SHOWN]) + (f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else "")
        until = " What it came to before stays until then." if result.checkpoint else ""
        yield stage.name, f"{stage.name} is done again: {why or 'it was made with other settings or files'}.{until}"


def _reasons(prepared: PreparedJob, stage: Stage, before: Job, entry: PlanEntry) -> Iterator[str]:
    for change in changes_for(stage.name, before, prepared.job, prepared.plan):
        if change.alters_result:
            yield f"`{change.path}` is {_SHORT.repr(change.new)}, was {_SHORT.repr(change.old)}"
    if entry.code_version != CODE_VERSION:
        yield "this espalier computes it otherwise"
    reads = prepared.reads.get(stage.name, {})
    for name, word in _WORDS.items():
        if name in entry.reads and entry.reads[name] != reads.get(name):
            yield word
