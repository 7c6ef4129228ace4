"""Read a job file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from espalier.config.document import read_document
from espalier.config.explain import faults_of
from espalier.config.faults import Fault, RefusedInput
from espalier.config.overrides import apply_overrides
from espalier.jobs.job import Job
from espalier.jobs.kind import KINDS
from espalier.jobs.recipe import RECIPES


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
        raise RefusedInput(map(_with_reason, faults_of(error, document, Job))) from None


def _with_reason(fault: Fault) -> Fault:
    """The fault of a name that an installed package would bring, if it could be used, says why it cannot."""
    for setting, broken in (("kind", KINDS.broken), ("name", RECIPES.broken)):
        if fault.path.endswith(f".{setting}") and isinstance(fault.value, str) and fault.value in broken:
            return replace(fault, allowed=f"{fault.allowed}; {broken[fault.value]}", near=None)
    return fault
