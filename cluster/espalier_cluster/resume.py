"""Where a run goes on: where it was, from its beginning, or from an older checkpoint; and with which settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from espalier.checkpoint.bases import check_state
from espalier.checkpoint.export_mark import is_left_over, require_replaceable
from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import discard, load_manifest
from espalier.checkpoint.places import state_storage
from espalier.checkpoint.steps import keys_of, replaced, stage_folder
from espalier.checkpoint.traces import strangers
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.jobs.kind import KINDS
from espalier.jobs.schema import resolved
from espalier.jobs.trained_stage import TrainedStage
from espalier.planning.again import done_again
from espalier.planning.changes import changes_for, refused_changes
from espalier.planning.prepare import PreparedJob
from espalier.stages.ownership import begin_anew
from espalier.stages.plan import CODE_VERSION, Stage
from espalier.stages.run_folder import RunFolder
from espalier.storage.contract import Storage, is_unfinished
from espalier.tracking.events import EVENTS, EventLog

_CARRIED_OUT = "resume.json"


def go_back(prepared: PreparedJob, folder: RunFolder) -> None:
    """Remove what `resume` says not to go on from: nothing (auto), everything (never), what is newer (a checkpoint).

    To be called before the job of the earlier start is overwritten. The same command given again after a stop goes
    on: it goes back once, until `arrived` is called.

    Raises:
        RefusedInput: the path is no checkpoint of a stage of this run, or not as it was written; or a stage under way
            would be lost, because it was begun with settings that make something else. Nothing was removed.
    """
    resume = prepared.job.resume
    if resume != "auto" and was_carried_out(prepared.job, folder):
        text = (
            f"resume={resume} was carried out when this job was first started; going on (resume=auto) since it stopped"
        )
        EventLog(folder.path / EVENTS).add("note", "", text)
        resume = "auto"
    if resume == "never":
        _forget(prepared.job, folder)
    else:
        checkpoint = None if resume == "auto" else _checkpoint(resume, prepared, folder)
        _compare(prepared, folder, reopened=checkpoint)
        if checkpoint:
            _cut(checkpoint, prepared, folder)
    if prepared.job.resume != "auto":
        folder.write_json(_CARRIED_OUT, resolved(prepared.job))


def arrived(folder: RunFolder) -> None:
    """A start came to an end that is not to be gone on from: the next one goes back again if it is told to."""
    folder.remove(_CARRIED_OUT)


def refuse_exports(prepared: PreparedJob, folder: RunFolder) -> None:
    """Refuse, before anything starts, an export that would have to replace what is no export any more.

    Raises:
        RefusedInput: naming each folder and what lies there.
    """
    faults: list[Fault] = []
    for stage in prepared.plan.stages:
        if KINDS[stage.config.kind].exports and not _has_result(folder, stage.name, stage.key):
            with _collected(faults):
                require_replaceable(folder.export(stage.name))
    if faults:
        raise RefusedInput(faults)


def was_carried_out(job: Job, folder: RunFolder) -> bool:
    """Whether an earlier start of this very job did already what its `resume` says."""
    remedy = f"what the last start wrote; remove the file, and resume={job.resume} is carried out again"
    started = folder.read(dict[str, Any], _CARRIED_OUT, what="note of the last start", remedy=remedy)
    try:
        return started is not None and Job.model_validate_json(json.dumps(started)) == job
    except ValidationError:  # written by another version, with settings that this one does not have
        return False


def _forget(job: Job, folder: RunFolder) -> None:
    """Remove what earlier starts have made; the ids come last, so that a start that was stopped here does it again."""
    storage = state_storage(folder.path, job)
    faults: list[Fault] = []
    for made in ("stages", "records"):
        _require_no_strangers(storage, made, faults)
        _require_no_strangers(folder.files, made, faults)
    for name in folder.files.list("exports"):
        path = folder.export(name)
        if not (is_unfinished(name) and is_left_over(path)):
            with _collected(faults):
                require_replaceable(path)
    if faults:
        raise RefusedInput(dict.fromkeys(faults))
    if storage.exists("stages"):
        storage.remove("stages")
    for old in ("stages", "records", "exports"):
        folder.remove(old)
    begin_anew(folder)


def _require_no_strangers(storage: Storage, folder: str, faults: list[Fault]) -> None:
    """Nothing but what a run makes is ever removed."""
    with _collected(faults):
        for path in islice(strangers(storage, folder), 1):
            allowed = "what a run leaves; this is something else that would be removed with it, so move it away first"
            place = path if (root := getattr(storage, "root", None)) is None else f"{root}/{path}"
            faults.append(Fault(place, None, allowed, given="is not of this run"))


@contextmanager
def _collected(faults: list[Fault]) -> Iterator[None]:
    try:
        yield
    except RefusedInput as refused:
        faults += refused.faults


def _checkpoint(resume: str, prepared: PreparedJob, folder: RunFolder) -> Path:
    """The checkpoint's path below the run, once it is clear that the run can go on from it."""
    checkpoint = Path(resume).resolve()
    names = [one.name for one in prepared.plan.stages]
    allowed = f"auto, never, or a checkpoint of this run: {folder.path}/stages/<stage>/step-<number>"
    if checkpoint.parent.parent != (folder.path / "stages").resolve() or checkpoint.parent.name not in names:
        raise RefusedInput([Fault("resume", resume, allowed)])
    storage = state_storage(folder.path, prepared.job)
    place = f"{stage_folder(checkpoint.parent.name)}/{checkpoint.name}"
    try:
        check_state(storage, place, load_manifest(storage, place), verify=True)
    except (DamagedCheckpoint, OSError) as error:
        whole = f"one that is whole, see `espalier checkpoint verify {folder.path}` ({error})"
        raise RefusedInput([Fault("resume", resume, whole)]) from None
    return checkpoint


def _cut(checkpoint: Path, prepared: PreparedJob, folder: RunFolder) -> None:
    """Remove what is newer in its stage, and all that was made from what the stage came to."""
    name = checkpoint.parent.name
    storage, stage = state_storage(folder.path, prepared.job), stage_folder(name)
    faults: list[Fault] = []
    for later in prepared.plan.after(name):
        _require_no_strangers(storage, stage_folder(later), faults)
        _require_no_strangers(folder.files, stage_folder(later), faults)
    if faults:
        raise RefusedInput(dict.fromkeys(faults))
    folder.remove(f"stages/{name}/result.json")  # first: without a result it goes on from whatever is left
    for step in storage.list(stage):
        if step.startswith("step-") and step > checkpoint.name:
            discard(storage, f"{stage}/{step}")
    for later in prepared.plan.after(name):
        if storage.exists(stage_folder(later)):
            storage.remove(stage_folder(later))
        folder.remove(f"stages/{later}")


def _compare(prepared: PreparedJob, folder: RunFolder, *, reopened: Path | None) -> None:
    """Refuse what would throw checkpoints of a stage under way away; write down what else is not as it was.

    Args:
        reopened: checkpoint that its stage is going to go on from, whatever else there is.
    """
    faults, notes = _differences(prepared, folder, reopened=reopened)
    if faults:
        raise RefusedInput(faults)
    if notes:
        events = EventLog(folder.path / EVENTS)
        for note in notes:
            events.add("note", "", note)


def refuse_lost_work(prepared: PreparedJob, folder: RunFolder) -> None:
    """For `plan`: what `run` would refuse. Changes nothing.

    Raises:
        RefusedInput: a stage is under way whose checkpoints were made with other settings, or states cannot be kept
            where the job says.
    """
    state_storage(folder.path, prepared.job)  # refused where its library is not installed; asks nobody
    if prepared.job.resume == "auto" and folder.ids():
        faults, _ = _differences(prepared, folder, reopened=None)
        if faults:
            raise RefusedInput(faults)


def _differences(
    prepared: PreparedJob, folder: RunFolder, *, reopened: Path | None
) -> tuple[list[Fault], dict[str, None]]:
    """What is to be refused, and what is to be said."""
    old = _earlier_job(folder) or prepared.job
    storage = state_storage(folder.path, old)
    entries = folder.plan()
    planned = {entry.name: entry.key for entry in entries}
    version = entries[0].code_version if entries else CODE_VERSION
    faults: dict[str, Fault] = {}
    notes: dict[str, None] = {}
    for stage in prepared.plan.stages:
        under_way = _keys_under_way(stage, storage, folder, reopened=reopened)
        if not under_way:
            continue
        changes = changes_for(stage.name, old, prepared.job, prepared.plan)
        if under_way != {stage.key} or old.checkpoints != prepared.job.checkpoints:
            known = changes if under_way <= {stage.key, planned.get(stage.name)} else []
            faults |= {fault.path: fault for fault in refused_changes(stage.name, known, code_version=version)}
        for change in changes:
            if not change.alters_result:
                notes[f"`{change.path}` is {change.new!r} from here on; it was {change.old!r}"] = None
    return list(faults.values()), notes


def _keys_under_way(stage: Stage, storage: Storage, folder: RunFolder, *, reopened: Path | None) -> set[str]:
    """The keys of its checkpoints that are of no result; empty for a stage that needs nothing of them."""
    if not isinstance(stage.config, TrainedStage):
        return set()
    if reopened is not None and reopened.parent.name == stage.name:
        return keys_of(storage, stage_folder(stage.name), only=reopened.name)
    result = folder.result(stage.name)
    if result is not None and result.key == stage.key:
        return set()
    return keys_of(storage, stage_folder(stage.name)) - ({result.key} if result else set())


def remove_replaced(prepared: PreparedJob, folder: RunFolder) -> None:
    """Remove checkpoints whose stage has come to something else since, where a start was stopped before it did so.

    From the last stage to the first, as checkpoints stand on those of earlier stages.
    """
    storage = state_storage(folder.path, prepared.job)
    for result in reversed(folder.results(stage.name for stage in prepared.plan.stages).values()):
        if result.checkpoint is not None:
            with suppress(RefusedInput):  # a stage that was moved away, with a link left behind, is left alone
                for old in replaced(storage, stage_folder(result.stage), by=result.checkpoint):
                    discard(storage, old)


def told_again(prepared: PreparedJob, folder: RunFolder) -> list[str]:
    """A sentence about each stage that has a result and is going to be done again. To be asked before `write_down`."""
    results = folder.results(stage.name for stage in prepared.plan.stages)
    found = done_again(prepared, results, before=_earlier_job(folder), planned=folder.plan())
    return [sentence for _, sentence in found]


def _earlier_job(folder: RunFolder) -> Job | None:
    """As the last start wrote it; None when there was none, or one whose job this espalier cannot read."""
    try:
        return folder.read_job()
    except (FileNotFoundError, RefusedInput):
        return None


def _has_result(folder: RunFolder, stage: str, key: str) -> bool:
    result = folder.result(stage)
    return result is not None and result.key == key
