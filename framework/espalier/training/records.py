"""Writing down every step as it happens."""

from __future__ import annotations

import time

from espalier.objectives.terms import names_of
from espalier.tracking.record import STEPS, StepLog, StepRecord
from espalier.training.context import StageContext
from espalier.training.cost import peak_bytes
from espalier.training.prepared import Prepared
from espalier.training.step import StepReport


class StepRecorder:
    """Rank zero's record of a stage's steps; on other workers it only keeps time.

    Attributes:
        seconds: that the stage took, earlier attempts' surviving steps included.
    """

    def __init__(self, context: StageContext, prepared: Prepared) -> None:
        self._context, self._prepared = context, prepared
        self._names = names_of(prepared.terms)
        self._step_tokens = round(context.config.batch.sequences * prepared.sequence_tokens)
        self._log = StepLog(context.folder.path / STEPS) if context.world.is_rank_zero else None
        self._opened = self._since = time.time()

    @staticmethod
    def open(context: StageContext, prepared: Prepared) -> StepRecorder:
        """Start recording; steps that a resume takes again are forgotten first."""
        recorder = StepRecorder(context, prepared)
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
            flops=self._prepared.ledger.flops(step),
            depth=_mean(self._prepared.ledger.depths(step - 1)),
        )
        self._log.append(record)


def _mean(depths: tuple[int, ...]) -> float | None:
    return sum(depths) / len(depths) if depths else None
