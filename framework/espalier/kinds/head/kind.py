"""Stage kind `head`: give a model the head that labelled data asks for."""

from __future__ import annotations

from typing import Literal

from espalier.jobs.kind import StageKind
from espalier.jobs.stage import ModelInput, StageSettings


class HeadStage(StageSettings):
    """Turn a language model of the run into a classifier or regressor: its body stays, its new head starts at random.

    What `load` does to a published model, for one that this job has made: pretrain on text, then fine-tune on labels.
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
