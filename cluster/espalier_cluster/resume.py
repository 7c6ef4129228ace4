"""Where a run goes on: where it was, from its beginning, or from an older checkpoint; and with which settings."""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import ValidationError

from espalier.checkpoint.manifest_file import discard, load_manifest
from espalier.checkpoint.places import state_storage
from espalier.checkpoint.steps import latest, stage_folder
from espalier.checkpoint.storage import Storage
from espalier.config.faults import Fault, RefusedInput
from espalier.config.job import Job
from espalier.config.stages import TrainedStage
from espalier.planning.changes import changes_for, refused_changes
from espalier.planning.prepare import PreparedJob
from espalier.stages.run_folder import RunFolder
from espalier.tracking.events import EVENTS, EventLog


def go_back(prepared: PreparedJob, folder: RunFolder) -> None:
    """Remove what `resume` says not to go on from: nothing (auto), everything (never), what is newer (a checkpoint).

    To be called before the job of the earlier start is overwritten.

    Raises:
        RefusedInput: the path is no checkpoint of a stage of this run, or a stage under way would be lost, because
            it was begun with settings that make something else.
    """
    resume = prepared.job.resume
    if resume == "never":
        _forget(prepared.job, folder)
        return
    checkpoint = None if resume == "auto" else _checkpoint(resume, prepared, folder)
    _compare(prepared, folder, reopened=checkpoint.parent.name if checkpoint else None)
    if checkpoint:
        _cut(checkpoint, prepared, folder)


def _forget(job: Job, folder: RunFolder) -> None:
    storage = state_storage(folder.path, job)
    if storage.exists("stages"):
        storage.remove("stages")
    for old in ("stages", "records", "exports", "run.json"):
        _remove(folder.path / old)


def _checkpoint(resume: str, prepared: PreparedJob, folder: RunFolder) -> Path:
    checkpoint = Path(resume).resolve()
    names = [one.name for one in prepared.plan.stages]
    if checkpoint.parent.parent != (folder.path / "stages").resolve() or checkpoint.parent.name not in names:
        allowed = f"auto, never, or a checkpoint of this run: {folder.path}/stages/<stage>/step-<number>"
        raise RefusedInput([Fault("resume", resume, allowed)])
    return checkpoint


def _cut(checkpoint: Path, prepared: PreparedJob, folder: RunFolder) -> None:
    names = [one.name for one in prepared.plan.stages]
    storage, stage = state_storage(folder.path, prepared.job), stage_folder(checkpoint.parent.name)
    for name in storage.list(stage):
        if name.startswith("step-") and name > checkpoint.name:
            discard(storage, f"{stage}/{name}")
    for later in names[names.index(checkpoint.parent.name) :]:
        _remove(folder.stage(later) / "result.json")


def _compare(prepared: PreparedJob, folder: RunFolder, *, reopened: str | None) -> None:
    """Refuse what would throw checkpoints away; write down what else is not as it was.

    Args:
        reopened: stage whose result is going to be removed.
    """
    old = _earlier_job(folder) or prepared.job
    storage = state_storage(folder.path, old)
    faults: dict[str, Fault] = {}
    notes: dict[str, str] = {}
    for stage in prepared.plan.stages:
        key = _newest_key(storage, stage.name) if isinstance(stage.config, TrainedStage) else None
        if key is None or (stage.name != reopened and _has_result(folder, stage.name, key)):
            continue
        changes = changes_for(stage.name, old, prepared.job, prepared.plan)
        if key != stage.key or old.checkpoints != prepared.job.checkpoints:
            faults |= {fault.path: fault for fault in refused_changes(stage.name, changes)}
        for change in changes:
            if not change.alters_result:
                notes[change.path] = f"`{change.path}` is {change.new!r} from here on; it was {change.old!r}"
    if faults:
        raise RefusedInput(faults.values())
    if notes:
        events = EventLog(folder.path / EVENTS)
        for note in notes.values():
            events.add("note", "", note)


def _earlier_job(folder: RunFolder) -> Job | None:
    """As the last start wrote it; None when there was none, or one whose job this espalier cannot read."""
    try:
        return folder.read_job()
    except (FileNotFoundError, RefusedInput, ValidationError):
        return None


def _newest_key(storage: Storage, stage: str) -> str | None:
    """The key that the newest usable checkpoint was made under; None when there is none."""
    found = latest(storage, stage_folder(stage), verify=False)
    return None if found.folder is None else str(load_manifest(storage, found.folder).state.get("key"))


def _has_result(folder: RunFolder, stage: str, key: str) -> bool:
    result = folder.result(stage)
    return result is not None and result.key == key


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
