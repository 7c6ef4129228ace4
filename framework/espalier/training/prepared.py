"""Prepare a training stage: where to start, its data, its schedule, its costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from espalier.checkpoint.read import StateReader
from espalier.config.faults import Fault, RefusedInput
from espalier.data.packing import CountedSequences, Sequences
from espalier.distributed.streams import stream_seed
from espalier.distributed.world import World
from espalier.engine import schedule
from espalier.jobs.trained_stage import TrainedStage
from espalier.models.families import num_parameters, shape_of
from espalier.models.flops import model_flops
from espalier.models.trained_part import TrainedPart
from espalier.saving.states import Lineage, find_resume
from espalier.stages.result import Cost
from espalier.training.depth_sampling import layer_orders
from espalier.training.flop_counter import StepFlops
from espalier.training.masking import Masking
from espalier.worker.context import StageContext
from espalier.worker.cost import stage_cost


@dataclass(frozen=True)
class Prepared:
    """What is fixed for a training stage before its first step.

    Attributes:
        student: the state of the input model.
        resumed: the stage's own newest checkpoint; None at its beginning.
        lineage: for the stage's checkpoints.
        flops: of each step.
        masking: for a masked language model; else None.
        sequence_tokens: tokens of a sequence, or their mean.
        order_seed: seed of the order of the data.
        earlier_steps: steps of all earlier stages, for the run's global step.
    """

    context: StageContext[TrainedStage]
    student: StateReader
    resumed: StateReader | None
    num_steps: int
    lineage: Lineage
    flops: StepFlops
    masking: Masking | None
    sequences: Sequences
    sequence_tokens: float
    order_seed: int
    earlier_steps: int

    @staticmethod
    def of(context: StageContext[TrainedStage], *, teacher: str | None = None) -> Prepared:
        """Open the input, the newest checkpoint and the data. Collective.

        Args:
            teacher: the stage whose model runs at every step.
        """
        stage, seed = context.config, context.job.seed
        student, resumed = context.model_of(stage.student), find_resume(context)
        model = student.manifest.origin.model
        of_teacher = context.model_of(teacher).manifest.origin.model if teacher else None
        sequences, most = context.sequences("train"), context.data.sequence_tokens
        num_steps = stage.budget.num_steps(
            sequences=stage.batch.sequences, sequence_tokens=most, num_samples=len(sequences)
        )
        length = mean_tokens(sequences, most)
        # Text goes on where the schedule's earlier stages stopped; labelled samples come in epochs of each stage.
        goes_on = context.labelled is None
        steps_before = schedule.steps_before(stage.optimizer, num_steps=num_steps) if goes_on else 0
        flops = StepFlops(stage, model, of_teacher, seed, length, num_steps, steps_before)
        return Prepared(
            context=context,
            student=student,
            resumed=resumed,
            num_steps=num_steps,
            lineage=Lineage.of_part(student, flops.part),
            flops=flops,
            masking=Masking.of(model, context.tokenizer(), share=stage.masked_share, seed=seed),
            sequences=sequences,
            sequence_tokens=length,
            order_seed=stream_seed(seed, "order"),
            earlier_steps=_earlier_steps(context),
        )

    @property
    def start(self) -> StateReader:
        """The state to load: the newest checkpoint, or the input."""
        return self.resumed or self.student

    @property
    def part(self) -> TrainedPart | None:
        """What is trained; None for all of the model."""
        return self.flops.part

    @cached_property
    def state(self) -> dict[str, Any]:
        """JSON values of the state to load; of an input only the count of updates that kept moments need."""
        return self.resumed.manifest.state if self.resumed else self._kept_state()

    @property
    def first_step(self) -> int:
        """Number of updates already done in this stage."""
        return self.resumed.manifest.origin.step if self.resumed else 0

    @property
    def updates(self) -> int:
        """Number of updates behind the optimizer's moments: without steps that the guard left out, with those of
        earlier stages if moments are kept."""
        return self.state.get("updates", 0)

    @property
    def losses(self) -> tuple[float, ...]:
        """The newest losses, for the guard."""
        return tuple(self.state.get("losses", ()))

    @property
    def seconds(self) -> float:
        """Seconds that the steps so far took."""
        return self.state.get("seconds", 0.0)

    @cached_property
    def valid(self) -> Sequences:
        """The validation samples."""
        return self.context.sequences("valid")

    def place(self, step: int) -> int:
        """The position of a step in the streams of data, masks, depths and dropout. 0 is the stage's first step."""
        return self.flops.first_step + step

    def layer_orders(self, step: int, world: World) -> list[tuple[int, ...]]:
        """The sequence of layers of each of this worker's microbatches in a step; empty without depth sampling."""
        sampling = self.flops.depth_sampling
        if sampling is None:
            return []
        held = shape_of(self.lineage.model).layers
        return layer_orders(sampling, self.flops.depths(step), held=held, rank=world.rank, num_ranks=world.size)

    def _kept_state(self) -> dict[str, Any]:
        """The count of updates behind the student's moments, if they are kept; else nothing."""
        stage, student = self.context.config, self.student
        if stage.optimizer_state == "fresh":
            return {}
        trained = student.shapes if self.part is None else self.part.names
        if not trained or not student.has_moments(trained):
            allowed = f"fresh: the model of stage {stage.student} comes without moments of all that is trained"
            raise RefusedInput([Fault(f"stages.{stage.name}.optimizer_state", "keep", allowed)])
        return {"updates": student.manifest.state["updates"]}

    def metrics(self, *, final_loss: float | None) -> dict[str, Any]:
        """Metrics of the stage's result; `final_loss` is None if no step was taken."""
        measured = {} if final_loss is None else {"final_loss": final_loss}
        counted = {"parameters": num_parameters(self.lineage.model)}
        if self.part is not None:
            counted["trained_parameters"] = self.part.num_parameters
        return {**counted, "steps": self.num_steps, **measured}

    def cost(self, *, steps: int, asked: int, seconds: float) -> Cost:
        """The cost of the whole stage: the student's forward and backward, the teacher's forward. Collective.

        Args:
            steps: number of steps taken.
            asked: number of samples predicted outside of steps.
        """
        samples, length = steps * self.context.config.batch.sequences, self.sequence_tokens
        flops = replace(self.flops, num_steps=steps).flops(steps)
        flops += model_flops(self.lineage.model, tokens=round(asked * length), sequence_tokens=length)
        counted = stage_cost(self.context, tokens=round(samples * length), samples=samples, flops=flops)
        return Cost(round(samples * length), samples, flops, seconds, counted.peak_bytes)


def mean_tokens(sequences: Sequences, most: int) -> float:
    """Mean tokens of a sequence; `most`, as sequences of text have, where they are not counted."""
    return sequences.num_tokens / len(sequences) if isinstance(sequences, CountedSequences) else most


def _earlier_steps(context: StageContext[TrainedStage]) -> int:
    plan = context.folder.plan()
    names = [entry.name for entry in plan]
    return sum(entry.steps or 0 for entry in plan[: names.index(context.config.name)])
