"""Where the states of a run are kept."""

from __future__ import annotations

from pathlib import Path

from espalier.checkpoint.storage import LocalStorage, Storage
from espalier.config.job import Job


def state_storage(run_folder: Path, job: Job) -> Storage:
    """With the run's other files, or below `checkpoints` where the job names another place.

    Raises:
        RefusedInput: a place that names no store, or one whose library is not installed.
    """
    if job.checkpoints is None:
        return LocalStorage(run_folder)
    from espalier.checkpoint.object_storage import open_storage  # brings fsspec, which few runs need

    return open_storage(f"{job.checkpoints.rstrip('/')}/{job.name}")
