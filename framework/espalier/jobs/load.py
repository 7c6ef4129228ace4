"""Read a job file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from espalier.config.document import Document, read_document
from espalier.config.explain import faults_of
from espalier.config.faults import Fault, RefusedInput
from espalier.config.overrides import apply_overrides
from espalier.jobs.job import Job
from espalier.jobs.kind import KINDS
from espalier.jobs.recipe import RECIPES
from espalier.jobs.tracker import TRACKERS


def read_job(path: Path, overrides: Sequence[str] = (), *, warn: Callable[[str], None] = lambda text: None) -> Job:
    """Read a job file, apply overrides and validate. Input files are not opened; see `check_files`.

    Args:
        path: a YAML file. Relative files, models and `./` folders, of overrides too, count from its folder.
        overrides: `stages.heal.optimizer.lr=1e-4`, applied in order.
        warn: called with a sentence for each setting that is given under its former name.

    Raises:
        RefusedInput: the text is not fit to read; else all faults of the overrides; else all of the job.
    """
    document = apply_overrides(read_document(path), overrides)
    former_names: dict[str, str] = {}
    try:
        return Job.model_validate(
            document.values, context={"folder": path.absolute().parent, "former_names": former_names}
        )
    except ValidationError as error:
        faults = faults_of(error, _under_names_of_today(document, former_names), Job)
        raise RefusedInput(map(_with_reason, faults)) from None
    finally:
        for old, new in former_names.items():
            warn(f"the setting `{old}` is called `{new}` now; its former name still works")


def _under_names_of_today(document: Document, former_names: dict[str, str]) -> Document:
    """The document with renamed keys in its lines too, so that a fault of such a setting finds its line.

    A line under its former name stays, for the fault of a setting that is given under both names.
    """
    renamed = {tuple(former_names.get(str(key), key) for key in keys): line for keys, line in document.lines.items()}
    return replace(document, lines={**document.lines, **renamed})


def _with_reason(fault: Fault) -> Fault:
    """Add to the fault of an unknown name why the installed package that brings it cannot be used."""
    for setting, broken in (("kind", KINDS.broken), ("name", RECIPES.broken)):
        if fault.path.endswith(f".{setting}") and isinstance(fault.value, str) and fault.value in broken:
            return replace(fault, allowed=f"{fault.allowed}; {broken[fault.value]}", near=None)
    tracker = fault.path.removeprefix("tracking.")
    if tracker in TRACKERS.broken:
        return replace(fault, allowed=f"{fault.allowed}; {TRACKERS.broken[tracker]}", near=None)
    return fault
