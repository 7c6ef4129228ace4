"""The revision of sequences of text in a `correct` stage: boosting by the KL divergence from the teacher."""

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
from espalier.weighting.boosting import boost
from espalier.worker.context import StageContext


class CorrectedText:
    """See `espalier.training.revision.SampleRevision`.

    The disagreement of a sequence is its divergence as a share of the largest one (AdaBoost.R2).
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
        """Open at the stage's checkpoint, or at its beginning."""
        tables = prepared.resumed.tables() if prepared.resumed else {}
        weights = tables["weights"].numpy() if tables else np.ones(len(prepared.sequences))
        return CorrectedText(context, prepared, weights)

    def tables(self) -> dict[str, Tensor]:
        return {"weights": torch.from_numpy(self._weights)}

    def revise(self, epoch: int, engine: Engine, source: SignalSource | None) -> tuple[dict[str, float], str | None]:
        stage = self._context.config
        assert source is not None
        self._context.activity(f"epoch {epoch}: divergence of student and teacher")
        distances = sequence_distances(
            engine.evaluate,
            source,
            self._prepared.sequences,
            term=Term.of("forward_kl"),
            microbatch_sequences=stage.batch.microbatch_sequences,
            world=self._context.world,
        ).numpy()
        apart = distances / distances.max() if distances.max() > 0 else distances
        none = np.zeros(len(apart), dtype=bool)
        rate = stage.weights.step_size(is_held_out=False)
        step = boost(self._weights, apart, num_classes=2, not_raised=none, config=stage.weights, rate=rate)
        self._weights = step.weights
        self._apply()
        figures = {"alpha": step.alpha, "error": step.error, "effective_share": step.effective_share}
        figures |= {"distance": float(distances.mean()), "largest_weight": float(step.weights.max())}
        return figures, self._write(epoch, distances) if self._context.world.is_rank_zero else None

    def _apply(self) -> None:
        counts_in, ones = self._context.config.weights.counts_in, np.ones_like(self._weights)
        self.sequences.label_weights = ones if counts_in == "signal" else self._weights
        self.sequences.signal_weights = ones if counts_in == "label" else self._weights

    def _write(self, epoch: int, distances: np.ndarray) -> str:
        """Write a row for each sequence; samples of text have no weights of their own, so boosting's are the loss's."""
        path = table_path(self._context.config.name, epoch)
        table = SampleTable(weight=self._weights.astype(np.float32), loss=distances.astype(np.float32))
        write_samples(self._context.folder.path / path, table, data="")
        return str(path)
