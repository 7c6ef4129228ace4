"""Check that the input files of a job exist, before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterator

from espalier.config.base import Config
from espalier.config.data import OriginConfig
from espalier.config.faults import Fault
from espalier.config.files import matching_files
from espalier.jobs.data_sets import data_path, data_sets
from espalier.jobs.job import Job
from espalier.jobs.kind import KINDS


def check_files(job: Job) -> list[Fault]:
    """Faults of inputs that are missing, unreadable or empty on this machine; hub names are not looked up."""
    faults: list[Fault] = []
    for name, data in data_sets(job).items():
        for setting, corpus in (("train", data.train), ("valid", data.valid)):
            if isinstance(corpus, OriginConfig):
                for position, pattern in enumerate(corpus.files):
                    path = f"{data_path(name)}.{setting}.files[{position}]"
                    faults.extend(_file_faults(path, pattern, may_be_empty=corpus.skip_blank))
    for path, folder in input_folders(job):
        if folder.startswith("/") and not os.path.isdir(folder):
            faults.append(Fault(path, folder, "a folder that exists and holds a model or checkpoint"))
    return faults


def input_folders(job: Job) -> Iterator[tuple[str, str]]:
    """Settings of models and tokenizers, and of the checkpoint to resume from, with their values; some are empty."""
    if job.checkpoints is None:  # on another storage it is checked when the run starts
        yield "resume", job.resume
    origins: list[tuple[str, Config | None]] = [("recipe", job.recipe)]
    origins += [(f"stages.{stage.name}", stage) for stage in job.stages if KINDS[stage.kind].source]
    for path, origin in origins:
        scratch = getattr(origin, "from_scratch", None)
        yield f"{path}.model", getattr(origin, "model", None) or ""
        yield f"{path}.from_scratch.tokenizer", (scratch.tokenizer if scratch else None) or ""


def _file_faults(path: str, pattern: str, *, may_be_empty: bool) -> Iterator[Fault]:
    found = matching_files(pattern)
    if not found:
        yield Fault(path, pattern, "a file that exists, or a glob that matches some")
    for file in found:
        try:
            with open(file, "rb") as stream:
                if not stream.read(1) and not may_be_empty:
                    setting = path.partition(".files")[0]
                    yield Fault(
                        path, file, f"a file with text in it, as this one is empty; or {setting}.skip_blank: true"
                    )
        except OSError as error:
            yield Fault(path, file, f"a file that can be read: {error.strerror}")
