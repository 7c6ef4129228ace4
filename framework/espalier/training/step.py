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
    """What one update was.

    Attributes:
        terms: mean of each term over what it counts in the step, all workers.
        loss: their weighted sum, the thing that was minimised.
        num_counted_tokens: tokens with a label, all workers.
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
    orders: Sequence[Sequence[int]] = (),
    world: World,
    before_update: Callable[[], None] = lambda: None,
) -> StepReport:
    """Accumulate a window of microbatches and update once. Collective.

    The window's counts are known, over all workers, before the first backward: so the gradient does not depend on how
    tokens, sequences or pairs fall on microbatches or workers.

    Args:
        objective: what the engine was opened with.
        random: (seed, step) of the draws inside modules.
        orders: the layers that each microbatch runs; each layer once when left out.
        before_update: called when gradients are complete and nothing has changed yet.
    """
    num_tokens, *counts = _global_counts(objective, microbatches, world)
    scales = [weight / count for weight, count in zip(objective.weights, counts, strict=True)]
    sums = torch.zeros(len(counts), dtype=torch.float64, device=world.device)
    for number, batch in enumerate(microbatches):
        # By the microbatch's place in the step, so that dropout does not depend on the number of workers either.
        seed_torch(random[0], "modules", random[1], number * world.size + world.rank)
        if orders:
            engine.run_layers(orders[number])
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
    """An error inside says in a note which step and which of this worker's samples it happened on."""
    try:
        yield
    except Exception as error:
        error.add_note(f"step {step}, samples {', '.join(map(str, sample_ids(microbatches)))}")
        raise


def sample_ids(microbatches: Sequence[Batch]) -> list[int]:
    """Of this worker's samples in a step, in order."""
    return [number for batch in microbatches for number in batch.sample_ids.tolist()]


def _global_counts(objective: Objective, microbatches: Sequence[Batch], world: World) -> list[int]:
    """Of the whole step: tokens with a label, then what each term counts."""
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
