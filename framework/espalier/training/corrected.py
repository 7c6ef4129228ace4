"""The samples of a `correct` stage, whatever they are; opened where the stage stands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from espalier.data.batch import Batch
from espalier.data.packing import Sequences
from espalier.engine.contract import Engine
from espalier.teachers.source import SignalSource
from espalier.training.context import StageContext
from espalier.training.corrected_labels import CorrectedLabels
from espalier.training.corrected_text import CorrectedText
from espalier.training.prepared import Prepared


class Corrected(Protocol):
    """Samples whose weights are revised at the end of each epoch.

    Attributes:
        sequences: the training samples under the weights that hold now.
        source: what the student hears beside the labels, where it is known already.
        watch: wants to see the answers that training gives, if anybody does.
        asked_each_epoch: samples that a model answers for a revision.
    """

    sequences: Sequences
    source: SignalSource | None
    watch: Callable[[Batch, Tensor], None] | None
    asked_each_epoch: int

    def revise(self, epoch: int, engine: Engine, source: SignalSource | None) -> tuple[dict[str, float], str | None]:
        """The end of an epoch: its figures, and the file with the samples (rank zero's). Collective."""
        ...

    def tables(self) -> dict[str, Tensor]:
        """All that resuming needs, whole. Collective."""
        ...


def open_corrected(context: StageContext, prepared: Prepared) -> Corrected:
    """From the stage's checkpoint, or as it begins. Collective."""
    return (
        CorrectedText.open(context, prepared) if context.labelled is None else CorrectedLabels.open(context, prepared)
    )
