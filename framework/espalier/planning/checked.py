"""The context of checks: a job, its plan, its previews and its labelled data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from espalier.config.data import DataConfig
from espalier.config.labelled import LabelledConfig
from espalier.data.examples import Labelled
from espalier.jobs.data_sets import DataSet
from espalier.jobs.job import Job
from espalier.jobs.stage import StageSettings
from espalier.planning.preview import StagePreview
from espalier.planning.sources import Source
from espalier.stages.plan import Plan


@dataclass(frozen=True)
class Checked:
    """The context of checks: a job, its plan, its previews and its labelled data.

    Attributes:
        models: previews by stage.
        labelled: the samples of each data set that has labels.
    """

    job: Job
    plan: Plan
    models: Mapping[str, StagePreview]
    sources: Mapping[str, Source]
    labelled: Mapping[DataSet, Labelled]

    def data_of(self, config: StageSettings) -> DataConfig | LabelledConfig:
        return self.job.data_of(config)

    def labelled_of(self, config: StageSettings) -> Labelled | None:
        """The labelled samples that a stage works on; None for text."""
        return self.labelled.get(config.data)

    def kind_of(self, stage: str) -> str:
        return self.plan[stage].config.kind
