"""The context of checks: a job, its plan, its previews and its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from espalier.config.format import DataSettings
from espalier.data.examples import Labelled
from espalier.data.found import FoundData
from espalier.jobs.data_sets import DataSet
from espalier.jobs.job import Job
from espalier.jobs.stage import StageSettings
from espalier.planning.preview import StagePreview
from espalier.planning.sources import Source
from espalier.stages.plan import Plan


@dataclass(frozen=True)
class Checked:
    """The context of checks: a job, its plan, its previews and its data.

    Attributes:
        models: previews by stage.
        found: what is known of each data set.
    """

    job: Job
    plan: Plan
    models: Mapping[str, StagePreview]
    sources: Mapping[str, Source]
    found: Mapping[DataSet, FoundData]

    def data_of(self, config: StageSettings) -> DataSettings:
        return self.job.data_of(config)

    def labelled_of(self, config: StageSettings) -> Labelled | None:
        """The labelled samples that a stage works on; None where targets are words."""
        return self.found[config.data].labelled

    def kind_of(self, stage: str) -> str:
        return self.plan[stage].config.kind
