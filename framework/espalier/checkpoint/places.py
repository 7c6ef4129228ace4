"""Where the states of a run are kept."""

from __future__ import annotations

import secrets
from pathlib import Path

from espalier.config.faults import Fault, RefusedInput
from espalier.config.job import Job
from espalier.storage.contract import Storage
from espalier.storage.local import LocalStorage


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
