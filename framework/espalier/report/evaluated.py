"""The results of each evaluation of a run: table of models, confusion matrix, generated samples."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.report.confusion import Confusion, confusion
from espalier.report.run import RunRecord
from espalier.report.tables import Grid, Sample, model_grid, samples


@dataclass(frozen=True)
class Evaluated:
    """The results of one evaluation.

    Attributes:
        stage: its name; empty when the run has only one evaluation.
        models: a table with a row for each model.
        samples: the models' generated text for each prompt.
    """

    stage: str
    models: Grid
    confusion: Confusion | None
    samples: tuple[Sample, ...]


def evaluated(run: RunRecord) -> list[Evaluated]:
    """The results of every finished evaluation, in the plan's order."""
    done = run.evaluations()
    return [
        Evaluated(
            one.stage if len(done) > 1 else "", model_grid(run, one), confusion(run, one), tuple(samples(run, one))
        )
        for one in done
    ]
