"""From a job to a plan that is known to be able to work: `espalier plan` is this.

No weights are read. Tokenizers are opened by stock code, as the run will, and that brings torch in when it is called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path

from espalier.config.data import DataConfig
from espalier.config.faults import RefusedInput
from espalier.config.files import check_files
from espalier.config.job import Job
from espalier.config.labelled import LabelledConfig
from espalier.config.schema import resolved
from espalier.config.stages import CorrectStage, StageConfig
from espalier.data.examples import Labelled, read_labelled
from espalier.data.fingerprint import digest_of, fingerprint
from espalier.data.look import look
from espalier.planning.checks import plan_faults
from espalier.planning.data_remarks import data_remarks, skipped_remarks
from espalier.planning.labelled_checks import labelled_faults
from espalier.planning.preview import StagePreview, preview
from espalier.planning.sources import Source, find_sources
from espalier.planning.text_checks import text_faults, text_remarks
from espalier.recipes import stages_of
from espalier.stages.plan import Plan, build_plan
from espalier.stages.run_folder import RunFolder


@dataclass(frozen=True)
class PreparedJob:
    """A job, its plan, and what the plan will do.

    Attributes:
        remarks: sentences about the data, for whoever reads the plan or starts the run.
        reads: by stage, a hash of each thing beside its settings that its key depends on.
    """

    job: Job
    plan: Plan
    previews: tuple[StagePreview, ...]
    sources: dict[str, Source]
    remarks: tuple[str, ...] = ()
    reads: dict[str, dict[str, str]] = field(default_factory=dict)

    def write_down(self, folder: RunFolder) -> None:
        """What workers read before they begin, and the report."""
        folder.write_json("job.json", resolved(self.job))
        reads = [{"reads": self.reads.get(preview.stage.name, {})} for preview in self.previews]
        entries = [preview.to_json() | more for preview, more in zip(self.previews, reads, strict=True)]
        folder.write_json("plan.json", entries)


def prepare(job: Job) -> PreparedJob:
    """Check all that can be checked without starting anything.

    Raises:
        RefusedInput: every fault that was found.
    """
    if faults := check_files(job):
        raise RefusedInput(faults)
    stages = stages_of(job)
    build_plan(stages, context={})  # names and cycles first: looking at models may take a download
    if isinstance(job.data, DataConfig):
        look(job.data)
    labelled = read_labelled(job.data, seed=job.seed) if isinstance(job.data, LabelledConfig) else None
    remarks = tuple(skipped_remarks(job.data)) if labelled is None else data_remarks(job.data, labelled)
    job = job if labelled is None else _with_classes(job, labelled)
    special_tokens = job.data.special_tokens if isinstance(job.data, DataConfig) else "own"
    outputs = None if labelled is None else labelled.names
    sources = find_sources(stages, outputs=outputs, special_tokens=special_tokens)
    context = {"seed": job.seed, "dtype": job.dtype, "data": fingerprint(job.data)}
    identities = {name: source.identity for name, source in sources.items()} | _files_named(stages)
    plan = build_plan(stages, context=context, identities=identities)
    num_samples = None if labelled is None else len(labelled.train)
    previews = preview(job, plan, sources, value_bytes=value_bytes(job), num_samples=num_samples)
    faults = [*plan_faults(job, plan, previews, sources), *labelled_faults(job, plan, labelled)]
    faults += text_faults(job, previews, sources)
    if faults:
        raise RefusedInput(faults)
    reads = _reads(plan, context, identities)
    return PreparedJob(job, plan, previews, sources, (*remarks, *text_remarks(job, previews, sources)), reads)


def _reads(plan: Plan, context: Mapping[str, object], identities: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What is told about a stage that is done again; short, as model configurations are long."""
    of_all = {"data": str(context["data"])}
    files = {name: {"files": hashlib.sha256(text.encode()).hexdigest()[:16]} for name, text in identities.items()}
    return {stage.name: of_all | files.get(stage.name, {}) for stage in plan.stages}


def _files_named(stages: Sequence[StageConfig]) -> dict[str, str]:
    """By stage, what the files hold that its settings name; one that is not there is refused elsewhere."""
    held = {}
    for stage in stages:
        if isinstance(stage, CorrectStage):
            files = {"distrust.exclude": stage.distrust.exclude, "weights.initial": stage.weights.initial}
            held[stage.name] = {name: digest_of(Path(file)) for name, file in files.items() if file and isfile(file)}
    return {name: repr(digests) for name, digests in held.items() if digests}


def _with_classes(job: Job, labelled: Labelled) -> Job:
    """The job as it is written down: classes that it left to the data have their names."""
    return job.model_copy(update={"data": job.data.model_copy(update={"labels": labelled.classes})})


def value_bytes(job: Job) -> int:
    """Of a weight while computing. On CPU workers `auto` is measured only when the run starts; 4 is the larger."""
    if job.dtype == "auto":
        return 2 if job.workers.gpus_each else 4
    return {"float32": 4, "bfloat16": 2}[job.dtype]
