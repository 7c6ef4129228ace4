"""What a stage that trains knows before its first step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from espalier.checkpoint.read import StateReader
from espalier.config.stages import DistillStage
from espalier.data.packing import Sequences
from espalier.distributed.streams import stream_seed
from espalier.models.families import num_parameters
from espalier.models.flops import model_flops, trained_flops
from espalier.models.shape import ConfigDict
from espalier.objectives.terms import Term, terms_of
from espalier.stages.result import Cost
from espalier.training.context import StageContext
from espalier.training.cost import stage_cost
from espalier.training.state import Lineage, find_resume


@dataclass(frozen=True)
class Prepared:
    """The fixed points of a training stage.

    Attributes:
        start: the state it goes on from: its own newest checkpoint, or its student.
        first_step: updates already done.
        updates: of those, the ones that the optimizer made; the guard may have left some out.
        losses: the newest ones, for the guard.
        seconds: that the steps took.
        lineage: of what the stage saves.
        teacher_model: the teacher's configuration; None without one.
        order_seed: the order of the data is a function of it and the position.
    """

    start: StateReader
    first_step: int
    num_steps: int
    updates: int
    losses: tuple[float, ...]
    seconds: float
    lineage: Lineage
    teacher_model: ConfigDict | None
    sequences: Sequences
    terms: tuple[Term, ...]
    order_seed: int

    @staticmethod
    def of(context: StageContext) -> Prepared:
        """Find out where to start. Collective."""
        stage = context.config
        student, resumed = context.model_of(stage.student), find_resume(context)
        teacher = context.model_of(stage.teacher) if isinstance(stage, DistillStage) else None
        state = resumed.manifest.state if resumed else {}
        return Prepared(
            start=resumed or student,
            first_step=resumed.manifest.origin.step if resumed else 0,
            num_steps=stage.budget.num_steps(stage.batch.sequences * context.job.data.sequence_tokens),
            updates=state.get("updates", 0),
            losses=tuple(state.get("losses", ())),
            seconds=state.get("seconds", 0.0),
            lineage=Lineage.after(student),
            teacher_model=teacher.manifest.origin.model if teacher else None,
            sequences=context.sequences("train"),
            terms=terms_of(stage.losses),
            order_seed=stream_seed(context.job.seed, "order"),
        )

    def metrics(self, *, final_loss: float | None) -> dict[str, Any]:
        """What the stage's result says; `final_loss` may be of an earlier attempt, or of no step at all."""
        measured = {} if final_loss is None else {"final_loss": final_loss}
        return {"parameters": num_parameters(self.lineage.model), "steps": self.num_steps, **measured}

    def cost(self, context: StageContext, *, seconds: float) -> Cost:
        """Of the whole stage: the student's forward and backward, the teacher's forward. Collective."""
        stage, sequence_tokens = context.config, context.job.data.sequence_tokens
        samples = self.num_steps * stage.batch.sequences
        tokens = samples * sequence_tokens
        forward = model_flops(self.lineage.model, tokens=tokens, sequence_tokens=sequence_tokens)
        flops = training_flops(forward, activation_checkpointing=stage.activation_checkpointing)
        if self.teacher_model:
            flops += model_flops(self.teacher_model, tokens=tokens, sequence_tokens=sequence_tokens)
        counted = stage_cost(context, tokens=tokens, samples=samples, flops=flops)
        return Cost(tokens, samples, flops, seconds, counted.peak_bytes)
