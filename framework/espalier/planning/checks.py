"""Check a whole plan before anything starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from espalier.config.faults import Fault
from espalier.config.formats import format_of
from espalier.jobs.data_sets import data_path, data_sets
from espalier.jobs.job import Job
from espalier.jobs.kind import KINDS
from espalier.jobs.stage import StageSettings
from espalier.jobs.trained_stage import TrainedStage
from espalier.models.families import shape_of
from espalier.planning.checked import Checked
from espalier.planning.head_checks import head_faults
from espalier.planning.preview import StagePreview
from espalier.planning.training_checks import training_faults


def plan_faults(checked: Checked) -> Iterator[Fault]:
    """Yield every reason why this plan would fail or lose work later."""
    job, previews = checked.job, tuple(checked.models.values())
    yield from _unused_data(checked)
    for found in checked.found.values():
        yield from found.faults
    yield from _too_long(checked)
    for preview in previews:
        config = preview.stage.config
        if unfit := _unfit(checked, config):
            yield unfit
            continue
        if unfit_heads := list(head_faults(checked, preview)):
            yield from unfit_heads
            continue
        own = KINDS[config.kind].call("checks")
        of_kind = list(own(checked, preview)) if own else []
        if isinstance(config, TrainedStage):
            told = {fault.path for fault in of_kind}
            yield from (fault for fault in training_faults(checked, preview) if fault.path not in told)
        yield from of_kind
    yield from _no_room(job, previews)


def _unused_data(checked: Checked) -> Iterator[Fault]:
    used = {config.data for config in (stage.config for stage in checked.plan.stages)}
    for name in data_sets(checked.job):
        if name is not None and name not in used:
            yield Fault(data_path(name), None, "a stage that names it as its `data`", given="is used by no stage")


def _unfit(checked: Checked, config: StageSettings) -> Fault | None:
    """Yield the fault of a stage whose kind does not accept its data."""
    kind, path = KINDS[config.kind], f"stages.{config.name}"
    if not kind.formats and config.data is not None:
        return Fault(f"{path}.data", config.data, f"leave it out; a stage of kind {kind.name} reads no data")
    if kind.formats and not kind.accepts(format_of(checked.data_of(config))):
        return Fault(f"{path}.kind", kind.name, kind.unfit or f"data of format {' or '.join(kind.formats)}")
    return None


def _too_long(checked: Checked) -> Iterator[Fault]:
    """Yield faults of models with fewer positions than sequences have tokens; checked where a model enters the job."""
    faults: dict[Fault, None] = {}
    for name in checked.sources:
        preview = checked.models[name]
        line = (checked.plan[one].config for one in (name, *checked.plan.after(name)))
        for data_set in dict.fromkeys(config.data for config in line if KINDS[config.kind].formats):
            path, length = data_path(data_set), data_sets(checked.job)[data_set].sequence_tokens
            faults |= dict.fromkeys(_longer_than_positions(checked.job, preview, path=path, length=length))
    yield from faults


def _longer_than_positions(job: Job, preview: StagePreview, *, path: str, length: int) -> Iterator[Fault]:
    name, known = preview.stage.name, shape_of(preview.config).positions
    scratch = getattr(preview.stage.config, "from_scratch", None)
    if scratch is not None and scratch.positions < length:
        wanted = f"at least {length}, as {path}.sequence_tokens says"
        yield Fault(f"stages.{name}.from_scratch.positions", scratch.positions, wanted)
    elif scratch is None and known and known < length:
        wanted = f"at most the {known} positions that the model of stage {name} knows"
        yield Fault(f"{path}.sequence_tokens", length, wanted)


def storage_bytes(job: Job, previews: Sequence[StagePreview]) -> int:
    """Upper bound of the bytes that the run writes below `storage`; states only if `checkpoints` is not elsewhere."""
    elsewhere = job.checkpoints is not None
    return sum(one.bytes_on_disk for one in previews if KINDS[one.stage.config.kind].exports or not elsewhere)


def _no_room(job: Job, previews: Sequence[StagePreview]) -> Iterator[Fault]:
    needed = storage_bytes(job, previews)
    there = Path(job.storage)
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK) or free == 0:
        yield Fault("storage", job.storage, f"a folder that can be made and written to; {there} cannot be")
    elif needed > free:
        wanted = f"a place with {needed / 2**30:,.3f} GiB free; there are {free / 2**30:,.3f}"
        yield Fault("storage", job.storage, wanted)
