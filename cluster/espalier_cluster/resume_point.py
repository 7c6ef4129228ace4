"""From where a run goes on, read from its folder."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import load_manifest
from espalier.checkpoint.places import state_storage
from espalier.checkpoint.steps import newest_step, stage_folder, step_folder
from espalier.config.faults import RefusedInput
from espalier.stages.run_folder import RunFolder
from espalier.storage.contract import Storage
from espalier.storage.local import LocalStorage


@dataclass(frozen=True)
class ResumePoint:
    """The first stage without a result, and its newest checkpoint.

    Attributes:
        stage: empty when all stages are done.
        place: as `3 of 5`; empty before the run was planned.
        step: 0 when the stage begins anew.
        num_workers: that wrote the checkpoint; 0 when it says nothing.
    """

    stage: str = ""
    place: str = ""
    step: int = 0
    num_workers: int = 0
    is_planned: bool = True

    def __str__(self) -> str:
        if not self.is_planned:
            return "it begins with its first stage"
        if not self.stage:
            return "all its stages are done"
        if not self.step:
            return f"it goes on at the beginning of stage {self.stage} ({self.place})"
        by = f", saved by {self.num_workers} worker{'s' * (self.num_workers != 1)}" if self.num_workers else ""
        return f"it goes on from step {self.step} of stage {self.stage} ({self.place}){by}"


def find_resume_point(folder: RunFolder) -> ResumePoint:
    """The point that the next start takes the run up from, under the settings of the last one."""
    entries = folder.plan()
    if not entries:
        return ResumePoint(is_planned=False)
    for number, entry in enumerate(entries, start=1):
        result = folder.result(entry.name)
        if result is not None and result.key == entry.key:
            continue
        storage, place = _states(folder), f"{number} of {len(entries)}"
        step = newest_step(storage, stage_folder(entry.name), key=entry.key)
        workers = _num_workers(storage, step_folder(entry.name, step)) if step else 0
        return ResumePoint(entry.name, place, step, workers)
    return ResumePoint()


def _states(folder: RunFolder) -> Storage:
    try:
        return state_storage(folder.path, folder.read_job())
    except (FileNotFoundError, RefusedInput):
        return LocalStorage(folder.path)


def _num_workers(storage: Storage, checkpoint: str) -> int:
    try:
        return load_manifest(storage, checkpoint).origin.world_size
    except (DamagedCheckpoint, OSError):
        return 0
