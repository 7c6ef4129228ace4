"""What a stage that trains knows before its first step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from espalier.checkpoint.read import StateReader
from espalier.config.faults import Fault, RefusedInput
from espalier.config.stages import DistillStage
from espalier.data.packing import Sequences
from espalier.distributed.streams import stream_seed
from espalier.distributed.world import World
from espalier.models.families import num_parameters, shape_of
from espalier.objectives.terms import Term, terms_of
from espalier.stages.result import Cost
from espalier.training.context import StageContext
from espalier.training.cost import stage_cost
from espalier.training.ledger import StepLedger
from espalier.training.lessons import layer_orders
from espalier.training.masking import Masking
from espalier.training.state import Lineage, find_resume


@dataclass(frozen=True)
class Prepared:
    """The fixed points of a training stage.

    Attributes:
        start: the state it goes on from: its own newest checkpoint, or its student.
        first_step: updates already done.
        updates: that the optimizer's moments have seen. The guard may have left steps out; moments that are kept
            were begun in earlier stages.
        losses: the newest ones, for the guard.
        seconds: that the steps took.
        lineage: of what the stage saves.
        ledger: what each step costs.
        masking: of a masked language model.
        order_seed: the order of the data is a function of it and the position.
    """

    start: StateReader
    first_step: int
    num_steps: int
    updates: int
    losses: tuple[float, ...]
    seconds: float
    lineage: Lineage
    ledger: StepLedger
    masking: Masking | None
    sequences: Sequences
    terms: tuple[Term, ...]
    order_seed: int

    @staticmethod
    def of(context: StageContext) -> Prepared:
        """Find out where to start. Collective."""
        stage = context.config
        student, resumed = context.model_of(stage.student), find_resume(context)
        teacher = context.model_of(stage.teacher) if isinstance(stage, DistillStage) else None
        state = resumed.manifest.state if resumed else _kept_state(context, student)
        num_steps = stage.budget.num_steps(stage.batch.sequences * context.job.data.sequence_tokens)
        model = student.manifest.origin.model
        teacher_model = teacher.manifest.origin.model if teacher else None
        length, seed = context.job.data.sequence_tokens, context.job.seed
        return Prepared(
            start=resumed or student,
            first_step=resumed.manifest.origin.step if resumed else 0,
            num_steps=num_steps,
            updates=state.get("updates", 0),
            losses=tuple(state.get("losses", ())),
            seconds=state.get("seconds", 0.0),
            lineage=Lineage.after(student),
            ledger=StepLedger(stage, model, teacher_model, seed, length, num_steps),
            masking=Masking.of(model, context.tokenizer(), share=stage.masked_share, seed=seed),
            sequences=context.sequences("train"),
            terms=terms_of(stage.losses),
            order_seed=stream_seed(context.job.seed, "order"),
        )

    def layer_orders(self, step: int, world: World) -> list[tuple[int, ...]]:
        """The layers that each microbatch of this worker runs in a step; empty without lessons."""
        lessons = getattr(self.ledger.stage, "lessons", None)
        if lessons is None:
            return []
        held = shape_of(self.lineage.model).layers
        return layer_orders(lessons, self.ledger.depths(step), held=held, rank=world.rank, num_ranks=world.size)

    def metrics(self, *, final_loss: float | None) -> dict[str, Any]:
        """What the stage's result says; `final_loss` may be of an earlier attempt, or of no step at all."""
        measured = {} if final_loss is None else {"final_loss": final_loss}
        return {"parameters": num_parameters(self.lineage.model), "steps": self.num_steps, **measured}

    def cost(self, context: StageContext, *, seconds: float) -> Cost:
        """Of the whole stage: the student's forward and backward, the teacher's forward. Collective."""
        samples = self.num_steps * context.config.batch.sequences
        tokens = samples * context.job.data.sequence_tokens
        flops = self.ledger.flops(self.num_steps)
        counted = stage_cost(context, tokens=tokens, samples=samples, flops=flops)
        return Cost(tokens, samples, flops, seconds, counted.peak_bytes)


def _kept_state(context: StageContext, student: StateReader) -> dict[str, Any]:
    """What the student's optimizer leaves to go on from; nothing for a fresh one."""
    if context.config.optimizer_state == "fresh":
        return {}
    if len(student.slots) == 1:
        allowed = f"fresh: the model of stage {context.config.student} comes without an optimizer's moments"
        raise RefusedInput([Fault(f"stages.{context.config.name}.optimizer_state", "keep", allowed)])
    return {"updates": student.manifest.state["updates"]}
