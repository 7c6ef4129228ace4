"""Take the updates of a training method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from espalier.config.training import OptimizerConfig
from espalier.distributed.world import World
from espalier.engine.contract import Engine
from espalier.engine.schedule import learning_rate
from espalier.teachers.source import SignalSource
from espalier.training.method import TrainingMethod
from espalier.training.step import StepReport, blamed_on, sample_ids, take_step


@dataclass(frozen=True)
class Update:
    """The result of one update.

    Attributes:
        step: 1-based.
        samples: ids of this worker's samples.
    """

    step: int
    report: StepReport
    lr: float
    samples: list[int]


@dataclass(frozen=True)
class Updates:
    """Takes updates with an engine, by a training method.

    Attributes:
        num_steps: length of the learning-rate schedule.
        random: (step) -> (seed, step) of the random stream of dropout.
        before_update: called when gradients are complete, before parameters change.
    """

    method: TrainingMethod
    engine: Engine
    source: SignalSource | None
    optimizer: OptimizerConfig
    num_steps: int
    random: Callable[[int], tuple[int, int]]
    world: World
    before_update: Callable[[], None] = lambda: None

    def take(self, step: int) -> Update:
        """Take one step; 0 is the stage's first. Collective."""
        microbatches = self.method.batches(step)
        lr = learning_rate(self.optimizer, step=step, num_steps=self.num_steps)
        with blamed_on(step + 1, microbatches):
            report = take_step(
                self.engine,
                self.source,
                microbatches,
                objective=self.method.objective,
                lr=lr,
                random=self.random(step),
                layer_orders=self.method.layer_orders(step),
                world=self.world,
                before_update=self.before_update,
            )
        return Update(step + 1, report, lr, sample_ids(microbatches))
