"""Sequences of text that a `correct` stage revises: raised where the student's words are far from the teacher's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from espalier.data.labelled_sequences import Reweighted
from espalier.engine.contract import Engine
from espalier.evaluation.distances import sequence_distances
from espalier.kinds.correct.kind import CorrectStage
from espalier.objectives.terms import Term
from espalier.teachers.source import SignalSource
from espalier.tracking.epochs import table_path
from espalier.tracking.samples import SampleTable, write_samples
from espalier.training.prepared import Prepared
from espalier.weighting.update import revise
from espalier.worker.context import StageContext


class CorrectedText:
    """See `espalier.training.revision.SampleRevision`.

    Distances count linearly, as a share of the largest (AdaBoost.R2).
    """

    source = None
    watch = None

    def __init__(self, context: StageContext[CorrectStage], prepared: Prepared, weights: np.ndarray) -> None:
        self._context, self._prepared, self._weights = context, prepared, weights
        self.sequences = Reweighted(prepared.sequences, weights, weights)
        self.asked_each_epoch = len(prepared.sequences)
        self._apply()

    @staticmethod
    def open(context: StageContext[CorrectStage], prepared: Prepared) -> CorrectedText:
        """From the stage's checkpoint, or as it begins."""
        tables = prepared.resumed.tables() if prepared.resumed else {}
        weights = tables["weights"].numpy() if tables else np.ones(len(prepared.sequences))
        return CorrectedText(context, prepared, weights)

    def tables(self) -> dict[str, Tensor]:
        return {"weights": torch.from_numpy(self._weights)}

    def revise(self, epoch: int, engine: Engine, source: SignalSource | None) -> tuple[dict[str, float], str | None]:
        stage = self._context.config
        assert source is not None
        self._context.activity(f"epoch {epoch}: asking student and teacher")
        distances = sequence_distances(
            engine.evaluate,
            source,
            self._prepared.sequences,
            term=Term.of("forward_kl"),
            microbatch_sequences=stage.batch.microbatch_sequences,
            world=self._context.world,
        ).numpy()
        apart = distances / distances.max() if distances.max() > 0 else distances
        nobody = np.zeros(len(apart), dtype=bool)
        rate = stage.weights.step_size(is_held_out=False)
        update = revise(self._weights, apart, num_classes=2, held=nobody, config=stage.weights, rate=rate)
        self._weights = update.weights
        self._apply()
        figures = {"alpha": update.alpha, "error": update.error, "effective_share": update.effective_share}
        figures |= {"distance": float(distances.mean()), "largest_weight": float(update.weights.max())}
        return figures, self._write(epoch, distances) if self._context.world.is_rank_zero else None

    def _apply(self) -> None:
        counts_in, ones = self._context.config.weights.counts_in, np.ones_like(self._weights)
        self.sequences.label_weights = ones if counts_in == "signal" else self._weights
        self.sequences.signal_weights = ones if counts_in == "label" else self._weights

    def _write(self, epoch: int, distances: np.ndarray) -> str:
        path = table_path(self._context.config.name, epoch)
        table = SampleTable(weight=self._weights.astype(np.float32), loss=distances.astype(np.float32))
        write_samples(self._context.folder.path / path, table, data="")
        return str(path)
