"""What a stage that trains knows before its first step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from espalier.checkpoint.read import StateReader
from espalier.config.faults import Fault, RefusedInput
from espalier.config.stages import CorrectStage, DistillStage
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.packing import Sequences
from espalier.distributed.streams import stream_seed
from espalier.distributed.world import World
from espalier.engine import schedule
from espalier.models.families import layout, num_parameters, shape_of, tuned_names
from espalier.models.flops import model_flops
from espalier.models.shape import ConfigDict
from espalier.objectives.terms import Term
from espalier.stages.result import Cost
from espalier.training.context import StageContext
from espalier.training.cost import stage_cost
from espalier.training.ledger import StepLedger
from espalier.training.lessons import layer_orders
from espalier.training.masking import Masking
from espalier.training.state import Lineage, find_resume
from espalier.training.terms import stage_terms


@dataclass(frozen=True)
class Prepared:
    """The fixed points of a training stage.

    Attributes:
        student: the state it begins with.
        trained: names of the parameters that are trained; None for all.
        resumed: its own newest checkpoint; None at its beginning.
        lineage: of what the stage saves.
        ledger: what each step costs.
        masking: of a masked language model.
        sequence_tokens: of a sequence; their mean where lengths differ.
        order_seed: the order of the data is a function of it and the position.
        earlier_steps: of the stages before this one, for the run's own axis.
    """

    context: StageContext
    student: StateReader
    trained: frozenset[str] | None
    resumed: StateReader | None
    num_steps: int
    lineage: Lineage
    ledger: StepLedger
    masking: Masking | None
    sequences: Sequences
    sequence_tokens: float
    terms: tuple[Term, ...]
    order_seed: int
    earlier_steps: int

    @staticmethod
    def of(context: StageContext) -> Prepared:
        """Find out where to start. Collective."""
        stage, seed = context.config, context.job.seed
        student, resumed = context.model_of(stage.student), find_resume(context)
        model = student.manifest.origin.model
        trained = tuned_names(model, stage.tune, path=f"stages.{stage.name}.tune")
        sequences, most = context.sequences("train"), context.job.data.sequence_tokens
        num_steps = stage.budget.num_steps(
            sequences=stage.batch.sequences, sequence_tokens=most, num_samples=len(sequences)
        )
        length = mean_tokens(sequences, most)
        # Text is read on from where the schedule's earlier stages stopped; labelled samples come in epochs of a stage.
        goes_on = context.labelled is None
        steps_before = schedule.steps_before(stage.optimizer, num_steps=num_steps) if goes_on else 0
        return Prepared(
            context=context,
            student=student,
            trained=trained,
            resumed=resumed,
            num_steps=num_steps,
            lineage=Lineage.after(student, trained=trained),
            ledger=StepLedger(stage, model, _teacher_model(context), seed, length, num_steps, steps_before),
            masking=Masking.of(model, context.tokenizer(), share=stage.masked_share, seed=seed),
            sequences=sequences,
            sequence_tokens=length,
            terms=stage_terms(stage, context.job.data),
            order_seed=stream_seed(seed, "order"),
            earlier_steps=_earlier_steps(context),
        )

    @property
    def start(self) -> StateReader:
        """The state to go on from."""
        return self.resumed or self.student

    @cached_property
    def state(self) -> dict[str, Any]:
        """What the state to go on from says beside the values, as far as it concerns this stage."""
        return self.resumed.manifest.state if self.resumed else self._kept_state()

    @property
    def first_step(self) -> int:
        """Updates already done."""
        return self.resumed.manifest.origin.step if self.resumed else 0

    @property
    def updates(self) -> int:
        """That the optimizer's moments have seen. The guard may have left steps out; moments that are kept were begun
        in earlier stages."""
        return self.state.get("updates", 0)

    @property
    def losses(self) -> tuple[float, ...]:
        """The newest ones, for the guard."""
        return tuple(self.state.get("losses", ()))

    @property
    def seconds(self) -> float:
        """That the steps took."""
        return self.state.get("seconds", 0.0)

    @property
    def has_running_teacher(self) -> bool:
        """Whether a teacher runs beside the student; one whose answers are known does not."""
        return self.ledger.teacher is not None

    @cached_property
    def valid(self) -> Sequences:
        """The validation side."""
        return self.context.sequences("valid")

    def place(self, step: int) -> int:
        """Where a step stands in the streams of data, masks, depths and dropout. 0 is the stage's first step."""
        return self.ledger.first_step + step

    def layer_orders(self, step: int, world: World) -> list[tuple[int, ...]]:
        """The layers that each microbatch of this worker runs in a step; empty without lessons."""
        lessons = getattr(self.ledger.stage, "lessons", None)
        if lessons is None:
            return []
        held = shape_of(self.lineage.model).layers
        return layer_orders(lessons, self.ledger.depths(step), held=held, rank=world.rank, num_ranks=world.size)

    def _kept_state(self) -> dict[str, Any]:
        """What the student's optimizer leaves to go on from; nothing for a fresh one."""
        stage, student = self.context.config, self.student
        if stage.optimizer_state == "fresh":
            return {}
        if not student.has_moments(student.shapes if self.trained is None else self.trained):
            allowed = (
                f"fresh: the model of stage {stage.student} comes without an optimizer's moments of all that is trained"
            )
            raise RefusedInput([Fault(f"stages.{stage.name}.optimizer_state", "keep", allowed)])
        return {"updates": student.manifest.state["updates"]}

    def metrics(self, *, final_loss: float | None) -> dict[str, Any]:
        """What the stage's result says; `final_loss` may be of an earlier attempt, or of no step at all."""
        measured = {} if final_loss is None else {"final_loss": final_loss}
        counted = {"parameters": num_parameters(self.lineage.model)}
        if self.trained is not None:
            parameters = layout(self.lineage.model)
            counted["trained_parameters"] = sum(parameters[name].num_elements for name in self.trained)
        return {**counted, "steps": self.num_steps, **measured}

    def cost(self, *, steps: int, asked: int, seconds: float) -> Cost:
        """Of the whole stage: the student's forward and backward, the teacher's forward. Collective.

        Args:
            steps: that were taken.
            asked: samples that models answered outside of steps.
        """
        samples, length = steps * self.context.config.batch.sequences, self.sequence_tokens
        flops = replace(self.ledger, num_steps=steps).flops(steps)
        flops += model_flops(self.lineage.model, tokens=round(asked * length), sequence_tokens=length)
        counted = stage_cost(self.context, tokens=round(samples * length), samples=samples, flops=flops)
        return Cost(round(samples * length), samples, flops, seconds, counted.peak_bytes)


def mean_tokens(sequences: Sequences, most: int) -> float:
    """Tokens of a sequence, on the average; all of text are as long as they can be."""
    return sequences.num_tokens / len(sequences) if isinstance(sequences, LabelledSequences) else most


def _teacher_model(context: StageContext) -> ConfigDict | None:
    stage = context.config
    runs = isinstance(stage, DistillStage) or (isinstance(stage, CorrectStage) and context.labelled is None)
    return context.model_of(stage.teacher).manifest.origin.model if runs and stage.teacher else None


def _earlier_steps(context: StageContext) -> int:
    plan = context.folder.plan()
    names = [entry.name for entry in plan]
    return sum(entry.steps or 0 for entry in plan[: names.index(context.config.name)])
