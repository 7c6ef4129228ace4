"""A loss as another package would bring it: one file, found through an entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from espalier.config.loss import Loss, LossSettings

if TYPE_CHECKING:
    from torch import Tensor


class Confident(LossSettings):
    """Cross-entropy of tokens, each weighted by how sure the teacher is of the label."""

    function: Literal["confident_cross_entropy"]
    power: Annotated[float, Field(gt=0.0, le=10.0)] = 1.0
    """Of the teacher's probability."""


def _values(settings: Confident, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    column = labels.unsqueeze(-1)
    sure = teacher.log_softmax(-1).gather(-1, column) * settings.power
    return -(sure.exp() * student.log_softmax(-1).gather(-1, column)).squeeze(-1)


CONFIDENT = Loss(Confident, compares="classes", needs_teacher=True, values=_values)
