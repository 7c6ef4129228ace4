"""What each evaluation of a run has measured, one after another."""

from __future__ import annotations

from dataclasses import dataclass

from espalier.report.confusion import Confusion, confusion
from espalier.report.run import RunRecord
from espalier.report.tables import Grid, Sample, model_grid, samples


@dataclass(frozen=True)
class Evaluated:
    """One evaluation.

    Attributes:
        stage: its name; empty where the run has only this one, which then needs no name.
        models: the models side by side.
        samples: what they wrote after the prompts.
    """

    stage: str
    models: Grid
    confusion: Confusion | None
    samples: tuple[Sample, ...]


def evaluated(run: RunRecord) -> list[Evaluated]:
    """Every evaluation that is done, in the plan's order."""
    done = run.evaluations()
    return [
        Evaluated(
            one.stage if len(done) > 1 else "", model_grid(run, one), confusion(run, one), tuple(samples(run, one))
        )
        for one in done
    ]
