"""Prepare a job: read its data, find its models, build and check the plan. `espalier plan` does this and no more.

No weights are read. Torch is imported only because stock code opens tokenizers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path

from espalier.config.data import SpecialTokens
from espalier.config.faults import RefusedInput
from espalier.config.format import DataSettings
from espalier.config.formats import format_of
from espalier.data.fingerprint import Split, digest_of
from espalier.data.found import FoundData
from espalier.jobs.data_sets import DataSet, data_path, data_sets, faults_of_data_set
from espalier.jobs.dials import faults_of_recipe
from espalier.jobs.files import check_files
from espalier.jobs.job import Job
from espalier.jobs.recipe import stages_of
from espalier.jobs.schema import resolved
from espalier.jobs.stage import StageSettings, named_files
from espalier.planning.checks import Checked, plan_faults
from espalier.planning.preview import StagePreview, preview
from espalier.planning.sources import Source, Use, find_sources
from espalier.planning.text_checks import text_faults, text_remarks
from espalier.stages.plan import Plan, build_plan
from espalier.stages.run_folder import RunFolder


@dataclass(frozen=True)
class PreparedJob:
    """A checked job with its plan and previews.

    Attributes:
        remarks: sentences about the data, for whoever reads the plan or starts the run.
        reads: by stage, a hash of each thing beside its settings that its key depends on.
        texts: by stage, the fingerprint of each split, where its format has one.
    """

    job: Job
    plan: Plan
    previews: tuple[StagePreview, ...]
    sources: dict[str, Source]
    remarks: tuple[str, ...] = ()
    reads: dict[str, dict[str, str]] = field(default_factory=dict)
    texts: dict[str, dict[Split, str]] = field(default_factory=dict)

    def write_down(self, folder: RunFolder) -> None:
        """Write the job and the plan into the run's folder, for workers and the report."""
        folder.write_json("job.json", resolved(self.job))
        names = [preview.stage.name for preview in self.previews]
        read = [{"texts": self.texts.get(name, {}), "reads": self.reads.get(name, {})} for name in names]
        entries = [preview.to_json() | more for preview, more in zip(self.previews, read, strict=True)]
        folder.write_json("plan.json", entries)


def prepare(job: Job) -> PreparedJob:
    """Read and check everything that can be checked without starting workers.

    Raises:
        RefusedInput: every fault that was found.
    """
    if faults := check_files(job):
        raise RefusedInput(faults)
    with faults_of_recipe(job):
        return _prepared(job)


def _prepared(job: Job) -> PreparedJob:
    stages = stages_of(job)
    graph = build_plan(stages, context={})  # names and cycles first, as finding models may need a download
    found = _look_at_data(job)
    job = _with_found(job, found)
    sources = find_sources(stages, _uses(job, graph, found))
    context = {"seed": job.seed, "dtype": job.dtype}
    prints = {name: _fingerprint(name, data) for name, data in data_sets(job).items()}
    of_stages = {stage.name: prints[stage.data] for stage in stages}
    texts = {name: _split_fingerprints(data) for name, data in data_sets(job).items()}
    identities = {name: source.identity for name, source in sources.items()} | _files_named(stages)
    plan = build_plan(stages, context=context, data=of_stages, identities=identities)
    previews = preview(job, plan, sources, value_bytes=value_bytes(job), found=found)
    checked = Checked(job, plan, {one.stage.name: one for one in previews}, sources, found)
    if faults := [*plan_faults(checked), *text_faults(checked)]:
        raise RefusedInput(faults)
    remarks = [*(remark for one in found.values() for remark in one.remarks), *text_remarks(checked)]
    reads, texts_of = _reads(of_stages, identities), {stage.name: texts[stage.data] for stage in stages}
    return PreparedJob(job, plan, previews, sources, tuple(remarks), reads, texts_of)


def _look_at_data(job: Job) -> dict[DataSet, FoundData]:
    """Read each data set as far as its format does before workers start."""
    found: dict[DataSet, FoundData] = {}
    for name, data in data_sets(job).items():
        with faults_of_data_set(name):
            found[name] = format_of(data).call("look")(data, seed=job.seed, path=data_path(name))
    return found


def _fingerprint(name: DataSet, data: DataSettings) -> str:
    with faults_of_data_set(name):
        whole: str = format_of(data).call("fingerprint")(data)
    return whole


def _split_fingerprints(data: DataSettings) -> dict[Split, str]:
    of_splits = format_of(data).call("split_fingerprints")
    return {} if of_splits is None else of_splits(data)


def _uses(job: Job, graph: Plan, found: Mapping[DataSet, FoundData]) -> dict[str, Use]:
    """For each stage that brings a model: the classes of its data and its special tokens."""
    uses = {}
    for stage in graph.stages:
        line = [job.data_of(graph[name].config) for name in (stage.name, *graph.after(stage.name))]
        around: SpecialTokens = next((one.around_documents for one in line if one.around_documents), "own")
        labelled = found[stage.config.data].labelled
        uses[stage.name] = Use(None if labelled is None else labelled.names, around)
    return uses


def _reads(data: Mapping[str, str], identities: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Short hashes of what a stage reads, to tell later which of it has changed."""
    files = {name: {"files": hashlib.sha256(text.encode()).hexdigest()[:16]} for name, text in identities.items()}
    return {name: {"data": of_data} | files.get(name, {}) for name, of_data in data.items()}


def _files_named(stages: Sequence[StageSettings]) -> dict[str, str]:
    """By stage, hashes of the files that its settings name; missing ones are refused elsewhere."""
    held = {}
    for stage in stages:
        held[stage.name] = {name: digest_of(Path(file)) for name, file in named_files(stage).items() if isfile(file)}
    return {name: repr(digests) for name, digests in held.items() if digests}


def _with_found(job: Job, found: Mapping[DataSet, FoundData]) -> Job:
    """The job with what was found in its data, such as classes, as it is written down."""
    known = {name: one.settings for name, one in found.items()}
    return job.model_copy(update={"data": known.pop(None), "data_sets": known})


def value_bytes(job: Job) -> int:
    """Bytes of a weight in the compute dtype; 4 for `auto` on CPU workers, where it is chosen when the run starts."""
    if job.dtype == "auto":
        return 2 if job.workers.gpus_each else 4
    return {"float32": 4, "bfloat16": 2}[job.dtype]
