"""What differs between trainings. The loop in `training/loop.py` knows nothing else about a stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from espalier.data.batch import Batch
from espalier.engine.contract import Engine
from espalier.engine.objective import Objective
from espalier.teachers.source import SignalSource


class TrainingMethod(Protocol):
    """How one stage learns: from which samples, for which objective, and what it does between steps.

    Whatever `batches` depends on beside the step has to be in `state` or `tables`, so that a resumed run draws the
    same: an update that depends on the model itself, as a rollout does, keeps what it drew.

    Attributes:
        objective: what is minimised; the engine is opened with it.
        source: a teacher whose answers are known already; None where there is none, or one that runs beside the
            student, which the loop opens.
        last_step: the update that ends the stage; may become smaller while it trains.
        best_folder: the checkpoint that the stage comes to, where it is not simply the last.
        asked: samples that models answered outside of steps, for the cost.
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
        """This worker's microbatches of an update, the same number on each worker. 0 is the stage's first update."""
        ...

    def layer_orders(self, step: int) -> Sequence[Sequence[int]]:
        """The layers that each of these microbatches runs; empty where each layer runs once, in order."""
        ...

    def after_step(self, step: int, engine: Engine, source: SignalSource | None) -> None:
        """Called after update number `step`, 1-based, and before it is saved. Collective."""
        ...

    def state(self) -> Mapping[str, Any]:
        """JSON values that resuming needs; found again as `prepared.state`."""
        ...

    def tables(self) -> Mapping[str, Tensor]:
        """Tensors that resuming needs, equal on all workers; found again as `prepared.resumed.tables()`. Collective."""
        ...

    def metrics(self) -> Mapping[str, Any]:
        """What the stage's result says beside its loss."""
        ...
