"""How a loss is declared: its settings, what it compares, its values and, if it has one, its closed gradient.

A module that declares a loss is imported while a job file is read, so it imports torch inside functions or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, Literal, TypeVar, get_args

from pydantic import Field

from espalier.config.base import Config

if TYPE_CHECKING:
    from torch import Tensor


class LossSettings(Config):
    """What every term of the weighted sum has: its function, a `Literal` of one name, and its weight."""

    function: str
    weight: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0


S = TypeVar("S", bound=LossSettings)


@dataclass(frozen=True)
class Loss(Generic[S]):
    """A loss: a function of each token alone, summed by the objective that uses it.

    `values` and `gradient` are called with (settings, student, teacher, labels):

    - student: [N, V] of N tokens, float32 or float64: logits of V classes, or V = 1 value of a regression.
    - teacher: [N, V] of the same dtype; None where the loss needs none and the stage has none.
    - labels: [N] int64 classes, each in 0..V-1, or floating-point values.

    For a loss of hidden states, V is the width of the teacher's hidden states; the student's come projected onto it.

    Attributes:
        settings: its parameters. Their `function` is a `Literal` of one name, which is the loss's.
        compares: what a row is: logits of classes (words, too), the value of a regression, hidden states.
        needs_teacher: whether `teacher` is read.
        values: -> [N], without the weight; differentiable by `student`, and changes no input.
        gradient: -> values [N] and their gradient [N, V] by `student`; may overwrite `student` and `teacher` and
            return their memory. Called without a graph. None: autograd through `values`, a block of rows at a time.
            Never called for a loss of hidden states.
    """

    settings: type[S]
    compares: Literal["classes", "values", "states"]
    needs_teacher: bool
    values: Callable[[S, Tensor, Tensor, Tensor], Tensor]
    gradient: Callable[[S, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    @property
    def name(self) -> str:
        """Of the function, in job files and records."""
        return str(get_args(self.settings.model_fields["function"].annotation)[0])
