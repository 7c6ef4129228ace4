"""Stage kind `head`: replace a model's head by one for the labelled data."""

from __future__ import annotations

from typing import Literal

from espalier.jobs.kind import StageKind
from espalier.jobs.stage import ModelInput, StageSettings


class HeadStage(StageSettings):
    """Turn a language model of the run into a classifier or regressor: keep its body, add a randomly initialised head.

    `load` does the same for published models; this kind is for a model that the job itself pretrains on text.
    """

    kind: Literal["head"]
    student: ModelInput


KIND = StageKind(
    name="head",
    settings=HeadStage,
    work="espalier.kinds.head.work:run",
    formats=("labelled",),
    unfit="labelled data (data.task), whose classes the head is made for; name it as `data`",
    preview="espalier.kinds.head.preview:preview",
    past="given a head",
)
