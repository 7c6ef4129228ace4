"""Apply the setting `resume` of a job (auto, never, or a checkpoint) and check changed settings against a begun run."""

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


def apply_resume(prepared: PreparedJob, folder: RunFolder) -> None:
    """Remove what the run must not resume from: nothing (auto), everything (never), what is newer (a checkpoint).

    Call it before the earlier job.json is overwritten. Given the same command again after a stop, the run resumes
    as with `auto`, until `clear_resume_note` is called.

    Raises:
        RefusedInput: `resume` names no intact checkpoint of this run; or an unfinished stage would be lost, because it
            was begun with settings that give another result. Nothing was removed.
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


def clear_resume_note(folder: RunFolder) -> None:
    """Forget that `resume` was applied, after a run that ended and is not to be resumed."""
    folder.remove(_CARRIED_OUT)


def refuse_exports(prepared: PreparedJob, folder: RunFolder) -> None:
    """Refuse, before anything starts, an export into a folder that holds other files than an export's.

    Raises:
        RefusedInput: naming each folder and what is in it.
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
    """Remove everything that earlier starts have made; the ids go last, so that an interrupted removal is repeated."""
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
    """Add a fault for a file that no run makes and that would be removed."""
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
    """Check that `resume` names an intact checkpoint of this run; returns its path."""
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
    """Remove newer checkpoints of its stage, and all stages made from that stage's result."""
    name = checkpoint.parent.name
    storage, stage = state_storage(folder.path, prepared.job), stage_folder(name)
    faults: list[Fault] = []
    for later in prepared.plan.after(name):
        _require_no_strangers(storage, stage_folder(later), faults)
        _require_no_strangers(folder.files, stage_folder(later), faults)
    if faults:
        raise RefusedInput(dict.fromkeys(faults))
    folder.remove(f"stages/{name}/result.json")  # first: without a result the stage resumes from what is left
    for step in storage.list(stage):
        if step.startswith("step-") and step > checkpoint.name:
            discard(storage, f"{stage}/{step}")
    for later in prepared.plan.after(name):
        if storage.exists(stage_folder(later)):
            storage.remove(stage_folder(later))
        folder.remove(f"stages/{later}")


def _compare(prepared: PreparedJob, folder: RunFolder, *, reopened: Path | None) -> None:
    """Refuse changed settings that would discard the checkpoints of an unfinished stage; note all other changes.

    Args:
        reopened: checkpoint that `resume` names; its stage resumes from it.
    """
    faults, notes = _differences(prepared, folder, reopened=reopened)
    if faults:
        raise RefusedInput(faults)
    if notes:
        events = EventLog(folder.path / EVENTS)
        for note in notes:
            events.add("note", "", note)


def refuse_lost_work(prepared: PreparedJob, folder: RunFolder) -> None:
    """Check for `plan` what `run` would refuse; changes nothing.

    Raises:
        RefusedInput: an unfinished stage has checkpoints made with other settings, or states cannot be stored where
            the job says.
    """
    state_storage(folder.path, prepared.job)  # refused where its library is not installed; asks nobody
    if prepared.job.resume == "auto" and folder.ids():
        faults, _ = _differences(prepared, folder, reopened=None)
        if faults:
            raise RefusedInput(faults)


def _differences(
    prepared: PreparedJob, folder: RunFolder, *, reopened: Path | None
) -> tuple[list[Fault], dict[str, None]]:
    """The changes of settings to refuse, and the messages about other changes."""
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
    """The keys of an unfinished stage's checkpoints; empty for a stage that does not resume from one."""
    if not isinstance(stage.config, TrainedStage):
        return set()
    if reopened is not None and reopened.parent.name == stage.name:
        return keys_of(storage, stage_folder(stage.name), only=reopened.name)
    result = folder.result(stage.name)
    if result is not None and result.key == stage.key:
        return set()
    return keys_of(storage, stage_folder(stage.name)) - ({result.key} if result else set())


def remove_replaced(prepared: PreparedJob, folder: RunFolder) -> None:
    """Remove checkpoints that a newer result has replaced, when the run was stopped before it did so itself.

    Goes from the last stage to the first, because checkpoints refer to those of earlier stages.
    """
    storage = state_storage(folder.path, prepared.job)
    for result in reversed(folder.results(stage.name for stage in prepared.plan.stages).values()):
        if result.checkpoint is not None:
            with suppress(RefusedInput):  # a stage that was moved away, with a link left behind, is left alone
                for old in replaced(storage, stage_folder(result.stage), by=result.checkpoint):
                    discard(storage, old)


def repeated_stage_messages(prepared: PreparedJob, folder: RunFolder) -> list[str]:
    """A message for each stage that has a result and will be repeated. Call it before `write_down`."""
    results = folder.results(stage.name for stage in prepared.plan.stages)
    found = done_again(prepared, results, before=_earlier_job(folder), planned=folder.plan())
    return [sentence for _, sentence in found]


def _earlier_job(folder: RunFolder) -> Job | None:
    """The job.json of the last start; None when there is none or this version cannot read it."""
    try:
        return folder.read_job()
    except (FileNotFoundError, RefusedInput):
        return None


def _has_result(folder: RunFolder, stage: str, key: str) -> bool:
    result = folder.result(stage)
    return result is not None and result.key == key
