"""Compare the settings that a half-finished stage's checkpoints were made with to those of the job now."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from dataclasses import replace

from espalier.config.faults import Fault
from espalier.jobs.dials import dial_path
from espalier.jobs.job import Job
from espalier.jobs.recipe import stages_of
from espalier.stages.changes import Change, stage_changes, value_changes
from espalier.stages.plan import CODE_VERSION, Plan

_OF_ALL_STAGES = {"seed", "dtype", "data", "checkpoints"}
_OF_THE_RUN = {"workers", "retry"}
_REMEDY = "or `resume=never`, or another name for the stage"
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def changes_for(stage: str, old: Job, new: Job, plan: Plan) -> list[Change]:
    """The changed settings that concern a stage: its own, those of its inputs, and the job's.

    Args:
        plan: of `new`.
    """
    sources = _sources(stage, plan)
    before, after = ({one.name: one for one in stages_of(job) if one.name in sources} for job in (old, new))
    found = [*_job_changes(old, new)]
    for name in sorted(before.keys() & after.keys(), key=list(after).index):
        found += [
            replace(change, path=dial_path(change.path, new))
            for change in stage_changes(before[name], after[name])
            if change.alters_result or name == stage
        ]
    return found


def refused_changes(stage: str, changes: list[Change], *, code_version: int | None = CODE_VERSION) -> list[Fault]:
    """The faults, at least one, of a stage that cannot be resumed from its checkpoints.

    Args:
        code_version: of the espalier that planned the run; None for versions that did not record it.
    """
    if code_version != CODE_VERSION:
        given = f"has checkpoints of another espalier, of code version {code_version or '3 or earlier'}"
        wanted = f"those of code version {CODE_VERSION}, whose keys hold the files and begin tokens of tokenizers, too"
        remedy = f"finish with the espalier that began it, {_REMEDY}"
        return [Fault(f"stages.{stage}", None, f"{wanted}; {remedy}", given=given)]
    altering = [change for change in changes if change.alters_result]
    if not altering:
        given = "has checkpoints made from other text, other model or tokenizer files, or other lists of samples"
        return [Fault(f"stages.{stage}", None, f"what they were made from, {_REMEDY}", given=given)]
    return [
        Fault(
            change.path,
            change.new,
            f"the value that the checkpoints of stage {stage} were made with ({_SHORT.repr(change.old)}), {_REMEDY}",
        )
        for change in altering
    ]


def _job_changes(old: Job, new: Job) -> Iterator[Change]:
    for names in (_OF_ALL_STAGES, _OF_THE_RUN):
        dumps = (job.model_dump(mode="json", include=names) for job in (old, new))
        for path, before, after in value_changes(*dumps):
            yield Change(path, before, after, names is _OF_ALL_STAGES)


def _sources(stage: str, plan: Plan) -> set[str]:
    """The stage and all its direct and indirect inputs."""
    return {stage}.union(*(_sources(name, plan) for name in plan[stage].inputs))
