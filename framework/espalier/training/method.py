"""The protocol of a training method: what differs between stages that the loop in `training/loop.py` trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from espalier.data.batch import Batch
from espalier.engine.contract import Engine
from espalier.engine.objective import Objective
from espalier.teachers.source import SignalSource


class TrainingMethod(Protocol):
    """The batches, the objective and the actions between steps of one stage.

    Whatever `batches` depends on beside the step has to be in `state` or `tables`, so that a resumed run makes the same
    batches; batches that depend on the model, such as rollouts, have to be kept there.

    Attributes:
        objective: the loss; the engine is opened with it.
        source: a teacher whose predictions are known already; None without one, or if the loop opens a teacher model.
        last_step: the update that ends the stage; may become smaller during training.
        best_folder: the checkpoint that is the stage's result; None: the last one.
        asked: number of samples predicted outside of steps, for the cost.
    """

    @property
    def objective(self) -> Objective: ...

    @property
    def source(self) -> SignalSource | None: ...

    @property
    def last_step(self) -> int: ...

    @property
    def best_folder(self) -> str | None: ...

    @property
    def asked(self) -> int: ...

    def batches(self, step: int) -> Sequence[Batch]:
        """This worker's microbatches of a step, the same number on each worker. 0 is the stage's first step."""
        ...

    def layer_orders(self, step: int) -> Sequence[Sequence[int]]:
        """The sequence of layers that each of these microbatches runs; empty: all layers once, in order."""
        ...

    def after_step(self, step: int, engine: Engine, source: SignalSource | None) -> None:
        """Called after update number `step` (1-based), before a checkpoint of it is saved. Collective."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What resuming needs, as JSON values; restored as `prepared.state`."""
        ...

    def tables(self) -> Mapping[str, Tensor]:
        """What resuming needs, as tensors that are equal on all workers; restored as `prepared.resumed.tables()`."""
        ...

    def metrics(self) -> Mapping[str, Any]:
        """Further metrics of the stage's result."""
        ...
