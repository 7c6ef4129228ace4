"""Stage kind `cross_fit`: predict every training sample with models that were not trained on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espalier.config.base import EXECUTION
from espalier.jobs.kind import StageKind
from espalier.jobs.trained_stage import TrainedStage


class CrossFitStage(TrainedStage):
    """Fine-tune fold models, each on all folds of the samples but one, and predict the fold that was left out.

    So every sample has a prediction of a model that was not trained on its label. A fold model is trained by one worker
    alone, as many at a time as there are workers. The predictions can be the teacher of a `correct` stage.
    """

    kind: Literal["cross_fit"]
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """How often all is repeated with other folds; predictions are averaged."""
    zero_level: Annotated[Literal["none"], EXECUTION] = "none"


KIND = StageKind(
    name="cross_fit",
    settings=CrossFitStage,
    work="espalier.kinds.cross_fit.work:run",
    yields=("answers",),
    formats=("labelled",),
    unfit="labelled data (data.task); text has no labels to be judged",
    preview="espalier.kinds.cross_fit.preview:preview",
    checks="espalier.kinds.cross_fit.checks:faults",
    remarks="espalier.kinds.cross_fit.checks:remarks",
    past="cross-fitted",
)
