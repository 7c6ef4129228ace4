"""The losses of a regression: the squared distance of the student's value from the label, or from the teacher's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from espalier.config.loss import Loss, LossSettings

if TYPE_CHECKING:
    from torch import Tensor


class SquaredError(LossSettings):
    """The squared distance of a regression's value from the label."""

    function: Literal["squared_error"]


class SquaredDistance(LossSettings):
    """The squared distance of a regression's value from the teacher's."""

    function: Literal["squared_distance"]


def _to_label(settings: SquaredError, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
    return _values(student, labels.unsqueeze(-1))


def _to_label_gradient(
    settings: SquaredError, student: Tensor, teacher: Tensor | None, labels: Tensor
) -> tuple[Tensor, Tensor]:
    return _gradient(student, labels.unsqueeze(-1))


def _to_teacher(settings: SquaredDistance, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return _values(student, teacher)


def _to_teacher_gradient(
    settings: SquaredDistance, student: Tensor, teacher: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    return _gradient(student, teacher)


def _values(values: Tensor, others: Tensor) -> Tensor:
    """Squared distances [N] of values from others, both [N, 1]."""
    return (values - others).square().sum(-1)


def _gradient(values: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    gap = values.sub_(others)
    return gap.square().sum(-1), gap.mul_(2.0)


SQUARED_ERROR = Loss(
    SquaredError, compares="values", needs_teacher=False, values=_to_label, gradient=_to_label_gradient
)
SQUARED_DISTANCE = Loss(
    SquaredDistance, compares="values", needs_teacher=True, values=_to_teacher, gradient=_to_teacher_gradient
)
