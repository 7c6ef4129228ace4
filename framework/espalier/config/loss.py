"""How a loss is declared: its settings, what it compares, its values and, if it has one, its closed gradient.

A module that declares a loss is imported while a job file is read, so it imports torch inside functions or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Generic, Literal, TypeVar, get_args

from pydantic import BeforeValidator, Field, model_validator

from espalier.config.base import Config, Words, parse_tuple
from espalier.config.faults import Fault, RefusedInput

if TYPE_CHECKING:
    from torch import Tensor


class LossSettings(Config):
    """Settings that all losses have: their function, a `Literal` of one name, and their weight in the sum."""

    function: str
    weight: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0


_Layer = Annotated[int, Field(ge=1, le=10**6)]
LayerPair = Annotated[tuple[_Layer, _Layer], BeforeValidator(parse_tuple)]
"""A layer of the student and one of the teacher, counted from 1."""


class HiddenStateSettings(LossSettings):
    """Settings that all losses of hidden states have."""

    layers: Annotated[
        tuple[LayerPair, ...],
        BeforeValidator(parse_tuple),
        Field(min_length=1),
        Words("the student's and the teacher's, counted from 1"),
    ]
    """Pairs of layers, [student, teacher], whose output hidden states are compared; the loss is the mean over pairs."""
    projection: Literal["learned", "none"] = "learned"
    """Whether a linear map from the student's to the teacher's width is trained for each pair. It begins as the
    identity and is no part of the model. Without it the widths have to be equal."""

    def projections(self) -> tuple[str | None, ...]:
        """Of each pair the name of its linear map, which losses of the same pair share; None where there is none."""
        learned = self.projection == "learned"
        return tuple(f"{student}-{teacher}" if learned else None for student, teacher in self.layers)

    @model_validator(mode="after")
    def _each_pair_once(self) -> HiddenStateSettings:
        if len(set(self.layers)) < len(self.layers):
            raise RefusedInput([Fault("layers", [list(pair) for pair in self.layers], "each pair once")])
        return self


S = TypeVar("S", bound=LossSettings)


@dataclass(frozen=True)
class Loss(Generic[S]):
    """A loss: a function of each token alone, summed by the objective that uses it.

    `values` and `gradient` are called with (settings, student, teacher, labels):

    - student: [N, V] of N tokens, float32 or float64: logits of V classes, or V = 1 value of a regression.
    - teacher: [N, V] of the same dtype; None where the loss needs none and the stage has none.
    - labels: [N] int64 classes, each in 0..V-1, or floating-point values.

    For a loss of hidden states the rows are those of one pair of layers, and V is their width: the teacher's, onto
    which the student's were projected. `labels` are not to be read there.

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

    def __post_init__(self) -> None:
        if self.compares == "states" and not issubclass(self.settings, HiddenStateSettings):
            raise TypeError(f"the settings of a loss of hidden states are HiddenStateSettings, not {self.settings}")

    @property
    def name(self) -> str:
        """Of the function, in job files and records."""
        return str(get_args(self.settings.model_fields["function"].annotation)[0])
