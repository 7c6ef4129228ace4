"""A fold model: trained on all folds of the samples but one, which it then predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from espalier.data.batch import Batch
from espalier.data.batches import window
from espalier.data.examples import first_places
from espalier.data.labelled_sequences import LabelledSequences, Part
from espalier.data.order import positions_to_indices
from espalier.distributed.streams import stream_seed
from espalier.engine.contract import Engine
from espalier.engine.objective import TokenObjective
from espalier.kinds.cross_fit.kind import CrossFitStage
from espalier.teachers.source import SignalSource
from espalier.training.label_terms import label_term
from espalier.training.prepared import Prepared
from espalier.worker.context import StageContext


@dataclass(frozen=True)
class Fold:
    """How the samples are divided for one fold model.

    Attributes:
        number: 0 to repeats * folds - 1.
        trained: [M] samples that it is trained on.
        held_out: [N - M] the others, which it predicts.
    """

    number: int
    trained: NDArray[np.int64]
    held_out: NDArray[np.int64]


def folds_of(context: StageContext[CrossFitStage], samples: LabelledSequences) -> list[Fold]:
    """Divide the samples into folds of nearly equal numbers of texts and shares of each class, by the job's seed.

    All samples with the same text are in one fold, so that no fold model is trained on a text that it predicts; the
    first one's label decides which class the text counts to.
    """
    stage, targets, first = context.config, samples.examples.targets, first_places(samples.examples)
    folds = []
    for repeat in range(stage.repeats):
        seed = stream_seed(context.job.seed, "folds", repeat)
        shuffled = positions_to_indices(np.arange(len(samples)), num_sequences=len(samples), seed=seed)
        shuffled = shuffled[first[shuffled] == shuffled]
        of_class = targets[shuffled] if np.issubdtype(targets.dtype, np.integer) else np.zeros(len(shuffled))
        dealt = shuffled[np.argsort(of_class, kind="stable")]
        for fold in range(stage.folds):
            held_out = np.flatnonzero(np.isin(first, dealt[fold :: stage.folds]))
            trained = np.setdiff1d(np.arange(len(samples)), held_out)
            folds.append(Fold(repeat * stage.folds + fold, trained, held_out))
    return folds


@dataclass(frozen=True)
class FoldModel:
    """See `TrainingMethod`. Trained on labels by one worker alone; only its predictions are kept.

    Attributes:
        seed: of the order of its samples and of dropout.
        last_step: its number of updates.
        name: shown to people.
    """

    samples: Part
    seed: int
    objective: TokenObjective
    last_step: int
    config: CrossFitStage
    name: str
    source: SignalSource | None = None
    best_folder: str | None = None
    asked: int = 0

    @staticmethod
    def of(context: StageContext[CrossFitStage], prepared: Prepared, fold: Fold) -> FoldModel:
        """The fold model before its first step."""
        stage = context.config
        return FoldModel(
            samples=Part(prepared.sequences, fold.trained),
            seed=stream_seed(context.job.seed, "twin", fold.number),  # the name of the random stream decides its bits
            objective=TokenObjective((label_term(context.data),)),
            last_step=stage.budget.num_steps(
                sequences=stage.batch.sequences,
                sequence_tokens=context.data.sequence_tokens,
                num_samples=len(fold.trained),
            ),
            config=stage,
            name=f"fold model {fold.number + 1} of {stage.folds * stage.repeats}",
        )

    def random(self, step: int) -> tuple[int, int]:
        """Seed and step of the random stream of dropout."""
        return self.seed, step

    def batches(self, step: int) -> Sequence[Batch]:
        return window(self.samples, step, seed=self.seed, batch=self.config.batch, rank=0, num_ranks=1)

    def layer_orders(self, step: int) -> Sequence[Sequence[int]]:
        return ()

    def after_step(self, step: int, engine: Engine, source: SignalSource | None) -> None:
        """Nothing is done between steps."""

    def state(self) -> Mapping[str, Any]:
        return {}

    def tables(self) -> Mapping[str, Tensor]:
        return {}

    def metrics(self) -> Mapping[str, Any]:
        return {}
