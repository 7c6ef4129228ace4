"""Read a job file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from espalier.config.document import read_document
from espalier.config.explain import faults_of
from espalier.config.faults import RefusedInput
from espalier.config.overrides import apply_overrides
from espalier.jobs.job import Job


def read_job(path: Path, overrides: Sequence[str] = ()) -> Job:
    """Read, change and check a job. Only the file itself is touched; `check_files` looks at its inputs.

    Args:
        path: a YAML file. Relative files, models and `./` folders, of overrides too, count from its folder.
        overrides: `stages.heal.optimizer.lr=1e-4`, applied in order.

    Raises:
        RefusedInput: the text is not fit to read; else all faults of the overrides; else all of the job.
    """
    document = apply_overrides(read_document(path), overrides)
    try:
        return Job.model_validate(document.values, context={"folder": path.absolute().parent})
    except ValidationError as error:
        raise RefusedInput(faults_of(error, document, Job)) from None
