"""The revision of labelled samples in a `correct` stage: predictions, state, files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from espalier.checkpoint.read import StateReader
from espalier.data.batch import Batch
from espalier.data.labelled_sequences import LabelledSequences, Reweighted
from espalier.data.sample_weights import read_excluded, read_sample_weights
from espalier.engine.contract import Engine
from espalier.engine.frozen import FrozenModel
from espalier.engine.precision import compute_dtype
from espalier.evaluation.answers import all_answers, probabilities
from espalier.kinds.correct.correction import Correction
from espalier.kinds.correct.kind import CorrectStage
from espalier.kinds.correct.running_predictions import RunningPredictions
from espalier.kinds.correct.sample_files import SampleFiles
from espalier.models.families import num_outputs
from espalier.teachers.answers import Answers
from espalier.teachers.source import SignalSource
from espalier.training.epoch_counter import EpochCounter
from espalier.training.prepared import Prepared
from espalier.weighting.boosting import bounded_weights
from espalier.weighting.decision import Decision
from espalier.worker.context import StageContext


class CorrectedLabels:
    """See `espalier.training.revision.SampleRevision`. Weights, label confidence and signal are in `Correction`."""

    def __init__(
        self,
        context: StageContext[CorrectStage],
        prepared: Prepared,
        correction: Correction,
        running: RunningPredictions | None,
    ) -> None:
        self._context, self._prepared, self._correction, self._running = context, prepared, correction, running
        self._files = SampleFiles.of(context) if context.world.is_rank_zero else None
        self.watch: Callable[[Batch, Tensor], None] | None = running.note if running else None
        self.asked_each_epoch = 0 if running else len(prepared.sequences)

    @staticmethod
    def open(context: StageContext[CorrectStage], prepared: Prepared) -> CorrectedLabels:
        """Open at the stage's checkpoint, or at its beginning. Collective."""
        stage, samples = context.config, prepared.sequences
        assert isinstance(samples, LabelledSequences)
        tables = prepared.resumed.tables() if prepared.resumed else {}
        width = num_outputs(prepared.lineage.model)
        from_training = stage.weights.predictions == "training"
        running = RunningPredictions(len(samples), width, context.world, tables) if from_training else None
        teacher = probabilities(_teacher_answers(context, samples)) if stage.teacher and not tables else None
        correction = Correction(
            stage,
            samples,
            num_revisions=EpochCounter(len(samples), stage.batch.sequences).ends_until(prepared.num_steps),
            weights=_first_weights(stage, samples),
            teacher=teacher,
            is_held_out=stage.teacher is not None and _is_cross_fitted(context.model_of(stage.teacher)),
            excluded=_excluded(stage, samples),
        )
        if tables:
            correction.restore(tables)
        elif stage.teacher:
            context.announce(f"stage {stage.name}: {correction.decision.reason}{_price(context, correction.decision)}")
        return CorrectedLabels(context, prepared, correction, running)

    @property
    def sequences(self) -> Reweighted:
        return self._correction.sequences

    @property
    def source(self) -> Answers:
        return self._correction.source

    def tables(self) -> dict[str, Tensor]:
        return self._correction.tables() | (self._running.tables() if self._running else {})

    def revise(self, epoch: int, engine: Engine, source: SignalSource | None) -> tuple[dict[str, float], str | None]:
        predictions = self._running.predictions() if self._running else self._predict(epoch, engine)
        revision = self._correction.revise(predictions)
        path = self._files.write(epoch, revision.table, self._correction) if self._files else None
        return revision.figures, path

    def _predict(self, epoch: int, engine: Engine) -> Tensor:
        """[N, C] logits of a pass of the student over all samples. Collective."""
        self._context.activity(f"epoch {epoch}: predictions of the student")
        return all_answers(
            engine.evaluate,
            self._prepared.sequences,
            width=num_outputs(self._prepared.lineage.model),
            microbatch_sequences=self._context.config.batch.microbatch_sequences,
            world=self._context.world,
            on_progress=lambda done: self._context.control.beat(f"answers of {self._context.config.name}"),
        )


def _price(context: StageContext[CorrectStage], decision: Decision) -> str:
    """The training that a decision to correct nothing has cost, for people."""
    result = context.folder.result(context.config.teacher or "")
    if decision.noise > 0.0 or result is None or result.cost is None or context.labelled is None:
        return ""
    passes = result.cost.samples / len(context.labelled.train)
    return f"; {context.config.teacher} took {passes:.1f} passes over the samples to find that out"


def _teacher_answers(context: StageContext[CorrectStage], samples: LabelledSequences) -> Tensor:
    """[N, C] logits: those that a `cross_fit` stage kept, or those of a model that is run now. Collective."""
    stage, world = context.config, context.world
    assert stage.teacher is not None
    reader = context.model_of(stage.teacher)
    if _is_cross_fitted(reader):
        return reader.tensor("table", "answers")
    dtype = compute_dtype(context.job.dtype, world.device)
    context.activity(f"predictions of the teacher, {stage.teacher}")
    with closing(FrozenModel(reader, zero_level=stage.teacher_zero_level, dtype=dtype, world=world)) as model:
        return all_answers(
            model.run,
            samples,
            width=num_outputs(reader.manifest.origin.model),
            microbatch_sequences=stage.batch.microbatch_sequences,
            world=world,
            on_progress=lambda done: context.activity(
                f"predictions of the teacher, {stage.teacher}: {done} of {len(samples)} samples"
            ),
        )


def _is_cross_fitted(teacher: StateReader) -> bool:
    """Whether the teacher is a `cross_fit` stage, which has kept its fold models' predictions."""
    return "answers" in teacher.manifest.tables


def _first_weights(stage: CorrectStage, samples: LabelledSequences) -> NDArray[np.float64]:
    """[N] boosting weights of the first epoch: 1, or those of `weights.initial` within floor and ceiling."""
    if stage.weights.initial is None:
        return np.ones(len(samples))
    setting, key = f"stages.{stage.name}.weights.initial", samples.examples.key
    weights = read_sample_weights(stage.weights.initial, num_samples=len(samples), data=key, setting=setting)
    return bounded_weights(weights, floor=stage.weights.floor, ceiling=stage.weights.ceiling)


def _excluded(stage: CorrectStage, samples: LabelledSequences) -> NDArray[np.bool_]:
    """[N] whether `distrust.exclude` names the sample."""
    if stage.distrust.exclude is None:
        return np.zeros(len(samples), dtype=bool)
    setting = f"stages.{stage.name}.distrust.exclude"
    return read_excluded(stage.distrust.exclude, samples.examples.names, setting=setting)
