"""What a stage that trains knows before its first step."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from espalier.checkpoint.read import StateReader
from espalier.config.labelled import LabelledConfig
from espalier.config.stages import CorrectStage, DistillStage, StageConfig
from espalier.data.labelled_sequences import LabelledSequences
from espalier.data.packing import Sequences
from espalier.distributed.streams import stream_seed
from espalier.models.families import num_parameters
from espalier.models.flops import model_flops, training_flops
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
        student: the state it begins with.
        resumed: its own newest checkpoint; None at its beginning.
        lineage: of what the stage saves.
        teacher_model: the configuration of a teacher that is a model; None without one.
        sequence_tokens: of a sequence; their mean where lengths differ.
        order_seed: the order of the data is a function of it and the position.
        earlier_steps: of the stages before this one, for the run's own axis.
    """

    context: StageContext
    student: StateReader
    resumed: StateReader | None
    num_steps: int
    lineage: Lineage
    teacher_model: ConfigDict | None
    sequences: Sequences
    sequence_tokens: float
    terms: tuple[Term, ...]
    order_seed: int
    earlier_steps: int

    @staticmethod
    def of(context: StageContext) -> Prepared:
        """Find out where to start. Collective."""
        stage = context.config
        student, resumed = context.model_of(stage.student), find_resume(context)
        sequences, most = context.sequences("train"), context.job.data.sequence_tokens
        num_steps = stage.budget.num_steps(
            sequences=stage.batch.sequences, sequence_tokens=most, num_samples=len(sequences)
        )
        return Prepared(
            context=context,
            student=student,
            resumed=resumed,
            num_steps=num_steps,
            lineage=Lineage.after(student),
            teacher_model=_teacher_model(context),
            sequences=sequences,
            sequence_tokens=mean_tokens(sequences, most),
            terms=stage_terms(stage, is_regression=is_regression(context)),
            order_seed=stream_seed(context.job.seed, "order"),
            earlier_steps=_earlier_steps(context),
        )

    @property
    def start(self) -> StateReader:
        """The state to go on from."""
        return self.resumed or self.student

    @property
    def state(self) -> dict[str, Any]:
        """What the stage's own checkpoint says beside the values."""
        return self.resumed.manifest.state if self.resumed else {}

    @property
    def first_step(self) -> int:
        """Updates already done."""
        return self.resumed.manifest.origin.step if self.resumed else 0

    @property
    def updates(self) -> int:
        """Of those, the ones that the optimizer made; the guard may have left some out."""
        return self.state.get("updates", 0)

    @property
    def losses(self) -> tuple[float, ...]:
        """The newest ones, for the guard."""
        return tuple(self.state.get("losses", ()))

    @property
    def seconds(self) -> float:
        """That the steps took."""
        return self.state.get("seconds", 0.0)

    @cached_property
    def valid(self) -> Sequences:
        """The validation side."""
        return self.context.sequences("valid")

    def metrics(self, *, final_loss: float | None) -> dict[str, Any]:
        """What the stage's result says; `final_loss` may be of an earlier attempt, or of no step at all."""
        measured = {} if final_loss is None else {"final_loss": final_loss}
        return {"parameters": num_parameters(self.lineage.model), "steps": self.num_steps, **measured}

    def cost(self, *, steps: int, asked: int, seconds: float) -> Cost:
        """Of the whole stage: the student's forward and backward, the teacher's forward. Collective.

        Args:
            steps: that were taken.
            asked: samples that models answered outside of steps.
        """
        stage, length = self.context.config, self.sequence_tokens
        samples = steps * stage.batch.sequences
        tokens = round(samples * length)
        forward = model_flops(self.lineage.model, tokens=tokens, sequence_tokens=length)
        flops = training_flops(forward, activation_checkpointing=stage.activation_checkpointing)
        if self.teacher_model:
            flops += model_flops(self.teacher_model, tokens=tokens, sequence_tokens=length)
        flops += model_flops(self.lineage.model, tokens=round(asked * length), sequence_tokens=length)
        counted = stage_cost(self.context, tokens=tokens, samples=samples, flops=flops)
        return Cost(tokens, samples, flops, seconds, counted.peak_bytes)


def stage_terms(stage: StageConfig, *, is_regression: bool) -> tuple[Term, ...]:
    """The weighted sum that a stage minimises."""
    if isinstance(stage, DistillStage):
        return terms_of(stage.losses)
    label = "squared_error" if is_regression else "cross_entropy"
    if not isinstance(stage, CorrectStage):
        return (Term(label),)
    signal = "squared_distance" if is_regression else "forward_kl"
    share, temperature = stage.signal.weight, 1.0 if is_regression else stage.signal.temperature
    terms = (Term(label, weight=1.0 - share), Term(signal, weight=share, temperature=temperature))
    return tuple(term for term in terms if term.weight > 0)


def is_regression(context: StageContext) -> bool:
    return isinstance(context.job.data, LabelledConfig) and context.job.data.task == "regression"


def mean_tokens(sequences: Sequences, most: int) -> float:
    """Tokens of a sequence, on the average; all of text are as long as they can be."""
    return sequences.num_tokens / len(sequences) if isinstance(sequences, LabelledSequences) else most


def _teacher_model(context: StageContext) -> ConfigDict | None:
    """Of a teacher that runs beside the student; one whose answers are known does not."""
    stage = context.config
    runs = isinstance(stage, DistillStage) or (isinstance(stage, CorrectStage) and context.labelled is None)
    return context.model_of(stage.teacher).manifest.origin.model if runs and stage.teacher else None


def _earlier_steps(context: StageContext) -> int:
    plan = json.loads((context.folder.path / "plan.json").read_text())
    names = [entry["name"] for entry in plan]
    return sum(entry["steps"] or 0 for entry in plan[: names.index(context.config.name)])
