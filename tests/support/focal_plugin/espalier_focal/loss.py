"""Cross-entropy times (1 - q)^gamma, q the probability of the label (arXiv 1708.02002, equation 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from espalier.config.loss import Loss, LossSettings

if TYPE_CHECKING:
    from torch import Tensor


class Focal(LossSettings):
    """Cross-entropy, each token weighted by how unsure the student is of it."""

    function: Literal["focal_cross_entropy"]
    gamma: Annotated[float, Field(ge=0.0, le=10.0)] = 2.0


def _values(settings: Focal, student: Tensor, teacher: Tensor | None, labels: Tensor) -> Tensor:
    of_label = student.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    return -((1 - of_label.exp()) ** settings.gamma) * of_label


FOCAL = Loss(Focal, compares="classes", needs_teacher=False, values=_values)
