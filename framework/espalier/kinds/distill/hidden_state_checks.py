"""Checks of losses of hidden states against the models of a distillation."""

from __future__ import annotations

from collections.abc import Iterator

from espalier.config.faults import Fault
from espalier.config.loss import HiddenStateSettings
from espalier.kinds.distill.kind import DistillStage
from espalier.models.families import shape_of
from espalier.models.shape import ModelShape
from espalier.planning.checked import Checked


def hidden_state_faults(checked: Checked, config: DistillStage) -> Iterator[Fault]:
    """Yield faults: layers out of range, widths that differ without a projection, no loss of logits."""
    student, teacher = (shape_of(checked.models[name].config) for name in (config.student, config.teacher))
    of_states = [(i, loss) for i, loss in enumerate(config.losses) if isinstance(loss, HiddenStateSettings)]
    for place, loss in of_states:
        yield from _unfit(loss, student, teacher, path=f"stages.{config.name}.losses[{place}]")
    if len(of_states) == len(config.losses):
        wanted = "a loss of logits beside those of hidden states, such as forward_kl: nothing else trains the head"
        yield Fault(f"stages.{config.name}.losses", [loss.function for loss in config.losses], wanted)


def _unfit(loss: HiddenStateSettings, student: ModelShape, teacher: ModelShape, *, path: str) -> Iterator[Fault]:
    for place, pair in enumerate(loss.layers):
        for layer, shape, whose in zip(pair, (student, teacher), ("student", "teacher"), strict=True):
            if layer > shape.layers:
                yield Fault(f"{path}.layers[{place}]", list(pair), f"1 to {shape.layers} for the {whose}")
    if loss.projection == "none" and student.hidden != teacher.hidden:
        widths = f"the student is {student.hidden} wide and the teacher {teacher.hidden}"
        yield Fault(f"{path}.projection", "none", f"learned, as {widths}")
