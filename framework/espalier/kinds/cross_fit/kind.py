"""Stage kind `cross_fit`: judge every sample by models that have not seen its label."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from espalier.config.base import EXECUTION
from espalier.jobs.kind import StageKind
from espalier.jobs.trained_stage import TrainedStage


class CrossFitStage(TrainedStage):
    """Fine-tune twins of the student, each without one fold of the samples, which it then judges.

    Every sample is so judged by models that have not seen its label. A twin is trained by one worker alone, as many
    side by side as there are workers; what comes out are their answers, which a `correct` stage can take as teacher.
    """

    kind: Literal["cross_fit"]
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    repeats: Annotated[int, Field(ge=1, le=100)] = 1
    """How often all is done with other folds; answers are averaged."""
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
    past="cross-fitted",
)
