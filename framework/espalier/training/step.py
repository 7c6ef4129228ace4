"""One update of the student."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from espalier.data.batch import Batch
from espalier.distributed.streams import seed_torch
from espalier.distributed.world import World
from espalier.engine.contract import Engine
from espalier.engine.objective import Objective
from espalier.objectives.signal import Signal
from espalier.teachers.source import SignalSource


@dataclass(frozen=True)
class StepReport:
    """Global values of one update.

    Attributes:
        terms: the mean of each term of the loss over what it counts.
        loss: their weighted sum.
        num_counted_tokens: tokens with a label.
    """

    loss: float
    terms: tuple[float, ...]
    num_counted_tokens: int
    gradient_norm: float


def take_step(
    engine: Engine,
    teacher: SignalSource | None,
    microbatches: Sequence[Batch],
    *,
    objective: Objective,
    lr: float,
    random: tuple[int, int],
    layer_orders: Sequence[Sequence[int]] = (),
    world: World,
    before_update: Callable[[], None] = lambda: None,
) -> StepReport:
    """Accumulate gradients over the microbatches of a step and update once. Collective.

    Counts are summed over the step and over workers before the first backward, so that the gradient does not depend on
    how tokens, sequences or pairs are split into microbatches or over workers.

    Args:
        objective: the one that the engine was opened with.
        random: (seed, step) of the random stream of dropout.
        layer_orders: the sequence of layers that each microbatch runs; all layers once when left out.
        before_update: called when gradients are complete, before parameters change.
    """
    num_tokens, *counts = _global_counts(objective, microbatches, world)
    scales = [weight / count for weight, count in zip(objective.weights, counts, strict=True)]
    sums = torch.zeros(len(counts), dtype=torch.float64, device=world.device)
    for number, batch in enumerate(microbatches):
        # Seeded by the microbatch's index in the step, so that dropout does not depend on the number of workers.
        seed_torch(random[0], "modules", random[1], number * world.size + world.rank)
        if layer_orders:
            engine.run_layers(layer_orders[number])
        on_device = batch.to(world.device)
        with _signal(teacher, on_device) as signal:
            sums = sums + engine.accumulate(on_device, signal, scales=scales)
    before_update()
    gradient_norm = engine.update(lr)
    means = [total / count for total, count in zip(world.sum(sums).tolist(), counts, strict=True)]
    loss = sum(weight * mean for weight, mean in zip(objective.weights, means, strict=True))
    return StepReport(loss, tuple(means), num_tokens, gradient_norm)


@contextmanager
def blamed_on(step: int, microbatches: Sequence[Batch]) -> Iterator[None]:
    """Context that adds the step and this worker's sample ids to errors, as a note."""
    try:
        yield
    except Exception as error:
        error.add_note(f"step {step}, samples {', '.join(map(str, sample_ids(microbatches)))}")
        raise


def sample_ids(microbatches: Sequence[Batch]) -> list[int]:
    """Ids of this worker's samples in a step, in order."""
    return [number for batch in microbatches for number in batch.sample_ids.tolist()]


def _global_counts(objective: Objective, microbatches: Sequence[Batch], world: World) -> list[int]:
    """Global counts of the step: tokens with a label, then the count of each term."""
    local = [(batch.num_counted_tokens(), *objective.counts(batch)) for batch in microbatches]
    tokens, *counts = (int(count) for count in world.sum(torch.tensor(local).sum(0)))
    if tokens == 0:
        raise ValueError("no token of this step has a label; is every document a single token?")
    for name, count in zip(objective.names, counts, strict=True):
        if count == 0:
            raise ValueError(f"nothing in this step counts for {name}")
    return [tokens, *counts]


@contextmanager
def _signal(teacher: SignalSource | None, batch: Batch) -> Iterator[Signal | None]:
    if teacher is None:
        yield None
        return
    with teacher.signal(batch) as signal:
        yield signal
