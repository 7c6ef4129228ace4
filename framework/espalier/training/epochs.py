"""Actions at the end of each epoch: revise samples, validate, remember the best epoch, stop early."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from espalier.checkpoint.steps import step_folder
from espalier.engine.contract import Engine
from espalier.evaluation.answers import all_answers, probabilities
from espalier.evaluation.metrics import is_better, measure
from espalier.jobs.trained_stage import TrainedStage
from espalier.models.families import num_outputs
from espalier.teachers.source import SignalSource
from espalier.tracking.epochs import EPOCHS, EpochLog, EpochRecord
from espalier.training.epoch_counter import EpochCounter
from espalier.training.prepared import Prepared
from espalier.training.revision import SampleRevision
from espalier.worker.context import StageContext

_STATE = "course"  # the key's name in the checkpoints of all versions


@dataclass
class EpochEnds:
    """What a stage does and keeps at the ends of its epochs; nothing over text, unless samples are revised.

    Attributes:
        revision: revises the samples; None for stages that do not.
        best: epoch, step and metric of the best epoch so far; empty without validation.
        worse_epochs: number of epochs since then.
        last_step: the update that ends the stage.
        asked: number of samples predicted outside of steps, for the cost.
    """

    context: StageContext[TrainedStage]
    prepared: Prepared
    revision: SampleRevision | None
    best: dict[str, Any]
    worse_epochs: int
    last_step: int
    asked: int
    _log: EpochLog | None = None
    _epochs: EpochCounter = field(init=False)

    def __post_init__(self) -> None:
        self._epochs = EpochCounter(len(self.prepared.sequences), self.context.config.batch.sequences)

    @staticmethod
    def open(context: StageContext[TrainedStage], prepared: Prepared, revision: SampleRevision | None) -> EpochEnds:
        """Restore the state from the checkpoint that the stage resumes from, if any."""
        state = prepared.state.get(_STATE, {})
        ends = EpochEnds(
            context,
            prepared,
            revision,
            best=state.get("best", {}),
            worse_epochs=state.get("worse_epochs", 0),
            last_step=state.get("last_step", prepared.num_steps),
            asked=state.get("asked", 0),
        )
        if context.world.is_rank_zero and ends._has_epochs:
            ends._log = EpochLog(context.folder.path / EPOCHS)
            ends._log.rewind(context.config.name, prepared.first_step)
        return ends

    @property
    def best_folder(self) -> str | None:
        """The checkpoint of the best epoch, if that is the stage's result; None: the last one."""
        validation = self.context.config.validation
        if validation is None or validation.keep == "last" or not self.best:
            return None
        return step_folder(self.context.config.name, self.best["step"])

    def state(self) -> dict[str, Any]:
        """What resuming needs, as JSON values."""
        if not self._has_epochs:
            return {}
        names = ("best", "worse_epochs", "last_step", "asked")
        return {_STATE: {name: getattr(self, name) for name in names}}

    def metrics(self) -> dict[str, Any]:
        """Metrics of the stage's result about epochs."""
        return {"best": self.best, "epochs": self._epochs.ended(self.last_step)} if self._has_epochs else {}

    def after_step(self, step: int, engine: Engine, source: SignalSource | None) -> None:
        """Act if an epoch, or the stage, ends with update number `step` (1-based). Collective."""
        whole = self._epochs.ends_at(step)
        if not self._has_epochs or not (whole or step == self.last_step):
            return
        epoch = self._epochs.ended(step) + (not whole)
        figures: dict[str, float] = {}
        samples: str | None = None
        if self.revision is not None and whole:
            figures, samples = self.revision.revise(epoch, engine, source)
            self.asked += self.revision.asked_each_epoch
        metrics = self._validate(engine, step, epoch)
        if self._log is not None:
            self._log.append(
                EpochRecord(
                    stage=self.context.config.name,
                    epoch=epoch,
                    step=step,
                    global_step=self.prepared.earlier_steps + step,
                    attempt=self.context.attempt,
                    time=time.time(),
                    metrics=metrics,
                    correction=figures,
                    samples=samples,
                )
            )

    @property
    def _has_epochs(self) -> bool:
        return self.context.labelled is not None or self.revision is not None

    def _validate(self, engine: Engine, step: int, epoch: int) -> dict[str, float]:
        validation, labelled = self.context.config.validation, self.context.labelled
        if validation is None or labelled is None:
            return {}
        self.context.activity(f"epoch {epoch}: validating")
        logits = all_answers(
            engine.evaluate,
            self.prepared.valid,
            width=num_outputs(self.prepared.lineage.model),
            microbatch_sequences=self.context.config.batch.microbatch_sequences,
            world=self.context.world,
        )
        self.asked += len(labelled.valid)
        metrics = measure(probabilities(logits), labelled.valid.targets)
        watched = self.context.data.watched
        assert watched is not None, "labelled data has a metric"
        if not self.best or is_better(watched, metrics[watched], self.best["value"]):
            self.best, self.worse_epochs = {"epoch": epoch, "step": step, "value": metrics[watched]}, 0
        else:
            self.worse_epochs += 1
        if validation.patience is not None and self.worse_epochs >= validation.patience and step < self.last_step:
            self.last_step = step
            self.context.announce(f"epoch {epoch} ends the stage: {watched} was best in epoch {self.best['epoch']}")
        return metrics
