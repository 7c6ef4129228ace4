"""Record every step."""

from __future__ import annotations

import time
from collections.abc import Sequence

from espalier.jobs.trained_stage import TrainedStage
from espalier.tracking.record import STEPS, StepLog, StepRecord
from espalier.training.prepared import Prepared
from espalier.training.step import StepReport
from espalier.worker.context import StageContext
from espalier.worker.cost import peak_bytes


class StepRecorder:
    """Writes a stage's steps into the record on rank zero; other workers only measure time.

    Attributes:
        seconds: duration of the stage's steps, with those of earlier attempts that were kept.
    """

    def __init__(self, context: StageContext[TrainedStage], prepared: Prepared, names: Sequence[str]) -> None:
        self._context, self._prepared, self._names = context, prepared, names
        self._step_tokens = round(context.config.batch.sequences * prepared.sequence_tokens)
        self._log = StepLog(context.folder.path / STEPS) if context.world.is_rank_zero else None
        self._opened = self._since = time.time()

    @staticmethod
    def open(context: StageContext[TrainedStage], prepared: Prepared, names: Sequence[str]) -> StepRecorder:
        """Start recording; remove the records of steps that will be taken again.

        Args:
            names: of the terms of the loss.
        """
        recorder = StepRecorder(context, prepared, names)
        if recorder._log:
            recorder._log.rewind(context.config.name, prepared.first_step)
        if prepared.first_step and context.world.is_rank_zero:
            text = f"going on after step {prepared.first_step}"
            context.events.add("resumed", context.config.name, text)
        return recorder

    @property
    def seconds(self) -> float:
        return self._prepared.seconds + time.time() - self._opened

    def write(self, step: int, report: StepReport, *, lr: float) -> None:
        """Record update number `step`, 1-based."""
        now = time.time()
        seconds, self._since = now - self._since, now
        if self._log is None:
            return
        record = StepRecord(
            stage=self._context.config.name,
            kind=self._context.config.kind,
            step=step,
            num_steps=self._prepared.num_steps,
            global_step=self._prepared.earlier_steps + step,
            attempt=self._context.attempt,
            time=now,
            loss=report.loss,
            terms=dict(zip(self._names, report.terms, strict=True)),
            lr=lr,
            gradient_norm=report.gradient_norm,
            tokens=step * self._step_tokens,
            step_seconds=seconds,
            tokens_per_second=self._step_tokens / seconds,
            peak_bytes=peak_bytes(self._context.world),
            flops=self._prepared.flops.flops(step),
            depth=_mean(self._prepared.flops.depths(step - 1)),
        )
        self._log.append(record)


def _mean(depths: tuple[int, ...]) -> float | None:
    return sum(depths) / len(depths) if depths else None
