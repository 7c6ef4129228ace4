"""Where the states of a run are kept."""

from __future__ import annotations

import secrets
from pathlib import Path

from espalier.checkpoint.manifest import DamagedCheckpoint
from espalier.checkpoint.manifest_file import is_committed, load_manifest
from espalier.checkpoint.traces import strangers
from espalier.config.faults import Fault, RefusedInput
from espalier.jobs.job import Job
from espalier.storage.contract import Storage
from espalier.storage.local import LocalStorage
from espalier.storage.records import MAX_BYTES, Versioned, parse_record

_OWNER = "run.json"


def state_storage(run_folder: Path, job: Job) -> Storage:
    """With the run's other files, or below `checkpoints` where the job names another place.

    Raises:
        RefusedInput: a place that names no store, or one whose library is not installed.
    """
    if job.checkpoints is None:
        return LocalStorage(run_folder)
    from espalier.storage.objects import open_storage  # brings fsspec, which few runs need

    return open_storage(f"{job.checkpoints.rstrip('/')}/{job.name}")


def require_usable(storage: Storage, job: Job) -> None:
    """Write, read and remove a small file where the job's states are going to be.

    Raises:
        RefusedInput: that cannot be done; says why.
    """
    probe = f".probe-{secrets.token_hex(8)}"
    try:
        if isinstance(storage, LocalStorage):
            storage.make_folder(".", mode=job.folder_mode)
        storage.publish(probe, b"espalier")
        storage.read_bytes(probe, max_bytes=8)
        storage.remove(probe)
    except OSError as error:
        allowed = (
            f"a place that can be written to; look at its name, its room, and the keys in the environment ({error})"
        )
        raise RefusedInput([Fault("checkpoints", job.checkpoints, allowed)]) from None


class _Owner(Versioned):
    run_id: str


def claim_states(storage: Storage, job: Job, *, run_id: str) -> None:
    """Mark the place of a run's states, where it is another than its folder, as this run's.

    Raises:
        RefusedInput: it is another run's, or holds what no run has made. Nothing was changed.
    """
    place = f"{job.checkpoints}/{job.name}"
    remedy = f"the place of this run's states alone; take another name or place, or remove `{place}` if nobody needs it"
    if storage.exists(_OWNER):
        data = storage.read_bytes(_OWNER, max_bytes=MAX_BYTES)
        owner = parse_record(_Owner, data, path=Path(place, _OWNER), what="mark of a run", remedy=remedy).run_id
        if owner != run_id:
            raise _not_ours(place, "holds the states of another run", remedy)
        return
    names = [name for name in storage.list(".") if name != _OWNER]
    if any(name != "stages" for name in names) or (names and not _are_all_of(storage, run_id)):
        raise _not_ours(place, f"holds `{names[0]}`, and nothing that says that this run made it", remedy)
    storage.make_folder(".")
    storage.publish(_OWNER, _Owner(run_id=run_id).model_dump_json().encode())


def _are_all_of(storage: Storage, run_id: str) -> bool:
    """Whether every checkpoint says that it is of this run: espalier did not always mark the place."""
    stages = [f"stages/{name}" for name in storage.list("stages")]
    folders = [f"{stage}/{name}" for stage in stages for name in storage.list(stage)]
    committed = [folder for folder in folders if is_committed(storage, folder)]
    try:
        owners = {(load_manifest(storage, folder).state.get("run") or {}).get("run_id") for folder in committed}
    except (DamagedCheckpoint, AttributeError):
        return False
    return owners == {run_id} and not any(strangers(storage, "stages"))


def _not_ours(place: str, given: str, remedy: str) -> RefusedInput:
    return RefusedInput([Fault("checkpoints", place, remedy, given=f"is `{place}`, which {given}")])
