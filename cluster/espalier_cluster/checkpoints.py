"""Find and verify the checkpoints of a run. Takes no lock: a checkpoint that vanishes in the meantime is no error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from espalier.checkpoint.bases import load_bases
from espalier.checkpoint.manifest import Base, DamagedCheckpoint, FileRecord, Manifest
from espalier.checkpoint.manifest_file import check_files, is_committed, load_manifest
from espalier.checkpoint.places import state_storage
from espalier.checkpoint.published_files import check_published_files
from espalier.checkpoint.steps import stage_folder, step_folder
from espalier.config.faults import Fault, RefusedInput, nearest
from espalier.stages.files import PlanEntry
from espalier.stages.run_folder import RunFolder
from espalier.storage.contract import Storage
from espalier.storage.local import LocalStorage

Known = TypeVar("Known")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint folder of a stage, committed or not.

    Attributes:
        folder: relative to the run.
        num_bytes: of the files in the manifest; of all files in the folder when it is not committed.
        manifest: None when it is uncommitted or its manifest cannot be used.
        faults: why the manifest cannot be used.
        is_result: the stage is done, and this is its model.
    """

    stage: str
    step: int
    folder: str
    num_bytes: int = 0
    manifest: Manifest | None = None
    faults: tuple[str, ...] = ()
    is_result: bool = False


@dataclass(frozen=True)
class Health:
    """The outcome of verifying a checkpoint; `gone`: it was removed or replaced in the meantime."""

    state: Literal["whole", "damaged", "uncommitted", "gone"]
    reasons: tuple[str, ...] = ()


def find_checkpoints(run_folder: Path, *, stage: str | None = None) -> list[Checkpoint]:
    """List the checkpoints of a run or of one stage, in the plan's order, steps rising. Reads manifests only.

    Raises:
        RefusedInput: the folder holds no run, the run has no such stage, or a newer espalier wrote a checkpoint.
    """
    storage, stages = states_of(run_folder), _stages(run_folder)
    if stage is not None and stage not in stages:
        raise RefusedInput(
            [Fault("--stage", stage, f"a stage of this run: {', '.join(stages)}", nearest(stage, stages))]
        )
    names = stages if stage is None else [stage]
    return [found for name in names for found in _of_stage(storage, run_folder, name)]


def states_of(run_folder: Path) -> Storage:
    """The storage of a run's checkpoints, from its job; the run's folder when the job cannot be read.

    Raises:
        RefusedInput: the library of the job's store is not installed.
    """
    try:
        job = RunFolder(run_folder).read_job()
    except (OSError, ValueError):  # RefusedInput and pydantic's errors are ValueErrors
        return LocalStorage(run_folder)
    return state_storage(run_folder, job)


def examine(
    storage: Storage, found: Checkpoint, *, on_bytes: Callable[[int], None], known: dict[Base, tuple[str, ...]]
) -> Health:
    """Verify a checkpoint: hash its files, those of states that it refers to, and published ones of both.

    Args:
        on_bytes: called after each of its own files with the file's size.
        known: faults of states that were verified before, by state; this call adds to it, as many refer to one.
    """
    if found.manifest is None:
        return Health("damaged", found.faults) if found.faults else Health("uncommitted")
    reasons: list[str] = []
    if found.manifest.origin.step != found.step:
        reasons.append(f"it is of step {found.manifest.origin.step}")
    for name, record in found.manifest.files.items():
        reasons += _file_faults(storage, found.folder, found.manifest, name, record)
        on_bytes(record.num_bytes)
    reasons += _published_faults(found.folder, found.manifest)
    reasons += _base_faults(storage, found.folder, found.manifest, known)
    if not reasons:
        return Health("whole")
    return Health("damaged", tuple(reasons)) if _stands(storage, found) else Health("gone")


def _file_faults(storage: Storage, folder: str, manifest: Manifest, name: str, record: FileRecord) -> tuple[str, ...]:
    """The faults of one file: missing, of another size or with another hash."""
    try:
        check_files(storage, folder, manifest.model_copy(update={"files": {name: record}}), verify=True)
    except DamagedCheckpoint as damage:
        return damage.reasons
    except OSError as error:
        return (f"`{name}` cannot be read: {error.strerror}",)
    except RefusedInput:
        return (f"`{name}` is a link that leaves the run",)
    return ()


def _published_faults(folder: str, manifest: Manifest) -> tuple[str, ...]:
    try:
        check_published_files(folder, manifest, verify=True)
    except DamagedCheckpoint as damage:
        return damage.reasons
    return ()


def _base_faults(
    storage: Storage, folder: str, manifest: Manifest, known: dict[Base, tuple[str, ...]]
) -> Iterator[str]:
    """The faults of the states that a checkpoint refers to."""
    try:
        loaded = load_bases(storage, folder, manifest)
    except DamagedCheckpoint as damage:
        yield from damage.reasons
        return
    except OSError as error:
        yield f"what it stands on cannot be read: {error.strerror}"
        return
    for base, below in zip(manifest.bases, loaded, strict=True):
        if base not in known:
            files = below.files.items()
            known[base] = tuple(
                fault for name, one in files for fault in _file_faults(storage, base.folder, below, name, one)
            ) + _published_faults(base.folder, below)
        yield from (f"it stands on `{base.folder}`: {reason}" for reason in known[base])


def _stands(storage: Storage, found: Checkpoint) -> bool:
    """Whether it is still the checkpoint that was found: removing takes the manifest first."""
    try:
        return load_manifest(storage, found.folder) == found.manifest
    except (DamagedCheckpoint, OSError):
        return is_committed(storage, found.folder)


def _stages(run_folder: Path) -> list[str]:
    if not (run_folder / "plan.json").exists() and not (run_folder / "stages").exists():
        allowed = "the folder of a run, `<storage>/<job name>`; this one holds no plan.json and no stages"
        raise RefusedInput([Fault("run_folder", str(run_folder), allowed)])
    no_plan: tuple[PlanEntry, ...] = ()
    planned = [entry.name for entry in _known(RunFolder(run_folder).plan, no_plan)]
    return list(dict.fromkeys([*planned, *LocalStorage(run_folder).list("stages")]))


def _of_stage(storage: Storage, run_folder: Path, stage: str) -> Iterator[Checkpoint]:
    parent = stage_folder(stage)
    result = _known(lambda: RunFolder(run_folder).result(stage), None)
    for name in storage.list(parent):
        digits = name.removeprefix("step-")
        if digits.isdecimal() and step_folder(stage, int(digits)) == f"{parent}/{name}":
            folder = f"{parent}/{name}"
            place = Checkpoint(stage, int(digits), folder, is_result=result is not None and result.checkpoint == folder)
            if (found := _look(storage, place)) is not None:
                yield found


def _look(storage: Storage, place: Checkpoint) -> Checkpoint | None:
    """Read a checkpoint's manifest; None when the folder is gone."""
    try:
        manifest = load_manifest(storage, place.folder)
    except OSError as error:  # among others a path that cannot be resolved, such as a loop of links
        return replace(place, num_bytes=_bytes_there(storage, place.folder), faults=_sentences(error))
    except DamagedCheckpoint as error:
        if not storage.exists(place.folder):
            return None
        faults = _sentences(error) if is_committed(storage, place.folder) else ()
        return replace(place, num_bytes=_bytes_there(storage, place.folder), faults=faults)
    return replace(place, num_bytes=sum(one.num_bytes for one in manifest.files.values()), manifest=manifest)


def _sentences(error: DamagedCheckpoint | OSError) -> tuple[str, ...]:
    return error.reasons if isinstance(error, DamagedCheckpoint) else (f"it cannot be read: {error.strerror}",)


def _bytes_there(storage: Storage, folder: str) -> int:
    """Total size of the files in a folder; 0 when one is removed in the meantime."""
    with contextlib.suppress(OSError):
        return sum(storage.num_bytes(f"{folder}/{name}") for name in storage.list(folder))
    return 0


def _known(read: Callable[[], Known], otherwise: Known) -> Known:
    """Call `read`; return `otherwise` when the file cannot be read, because checkpoints are shown without it too."""
    with contextlib.suppress(OSError, RefusedInput):
        return read()
    return otherwise
