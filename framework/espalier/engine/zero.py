"""Levels optimizer, gradients and parameters, through DeepSpeed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from espalier.checkpoint.fragments import Fragment
from espalier.config.training import OptimizerConfig, ZeroLevel
from espalier.data.batch import Batch
from espalier.distributed.world import World
from espalier.engine.adamw import adamw, parameter_groups, set_rate, trained_parameters
from espalier.engine.closing import close_deepspeed
from espalier.engine.contract import Values
from espalier.engine.deepspeed_settings import fetch_by_layer, forget_gradients
from espalier.engine.gradient_order import GradientOrder
from espalier.engine.layouts import Layout, PartitionedLayout, ShardedLayout
from espalier.engine.objective import Objective
from espalier.models.network import HeadUse, Network, evaluating
from espalier.objectives.signal import Signal

T = TypeVar("T")


class ZeroEngine:
    """A student that DeepSpeed shards.

    DeepSpeed averages gradients over workers and would divide by the number of microbatches; scales come in for
    sums, so they are multiplied by the number of workers and its own division is switched off.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        *,
        level: ZeroLevel,
        optimizer: OptimizerConfig,
        rate_scales: Mapping[str, float],
        may_be_unused: Collection[str],
        config: dict[str, Any],
        world: World,
    ) -> None:
        import deepspeed

        self._objective, self._world = objective, world
        trained = trained_parameters(network)
        self._names = {parameter: name for name, parameter in trained.items()}
        self._level = level
        self._num_microbatches: int = config["gradient_accumulation_steps"]
        self._accumulated = 0
        if level == "parameters":
            fetch_by_layer(network.layers)
        groups = parameter_groups(trained, optimizer.weight_decay, rate_scales=rate_scales)
        self._engine, *_ = deepspeed.initialize(
            model=network, optimizer=adamw(groups, optimizer), config=config, dist_init_required=False
        )
        if world.size > 1 and hasattr(
            self._engine.optimizer, "process_gradients"
        ):  # in bfloat16, level optimizer keeps all
            GradientOrder(self._engine.optimizer, self._names, may_be_unused=may_be_unused, world=world)
        self._layout: Layout = (
            ShardedLayout(self._engine.optimizer, self._names, rank=world.rank)
            if level == "parameters"
            else PartitionedLayout(self._engine.optimizer, self._names)
        )

    def accumulate(self, batch: Batch, signal: Signal | None, *, scales: Sequence[float]) -> Tensor:
        if self._accumulated:  # DeepSpeed counts microbatches by calls of step()
            self._engine.step()
        scales = [scale * self._world.size for scale in scales]
        total, sums = self._engine(batch, self._objective.use(batch, signal, scales))
        if not total.requires_grad:  # nothing that is trained took part; the other workers reduce with this one
            total = total + torch.zeros_like(total, requires_grad=True)
        # A product, because the loss must not be the forward's output itself: DeepSpeed (0.19.8) has a hook on that,
        # and at level optimizer in bfloat16 it divides by the number of microbatches whatever it is told here.
        self._engine.backward(total * 1.0, scale_wrt_gas=False)
        self._accumulated += 1
        return sums

    @torch.no_grad()
    def evaluate(self, batch: Batch, use: HeadUse[T]) -> T:
        assert not self._accumulated, "between updates only"
        with evaluating(self._engine.module):
            return self._engine(batch, use)

    def run_layers(self, order: Sequence[int] | None) -> None:
        self._engine.module.run_layers(order)

    def update(self, lr: float) -> float:
        assert self._accumulated == self._num_microbatches, (self._accumulated, self._num_microbatches)
        self._accumulated = 0
        set_rate(self._engine.optimizer, lr)
        self._engine.step()
        if self._level == "parameters":
            forget_gradients(self._engine.optimizer)
        return float(self._engine.get_global_grad_norm())

    def fragments(self) -> Iterator[Fragment]:
        for piece in self._layout.pieces():
            for slot, view in piece.views.items():
                yield Fragment(slot, piece.name, piece.offset, view)

    @torch.no_grad()
    def restore(self, reader: Values, *, steps_taken: int) -> None:
        if steps_taken:
            self._layout.make_moments(steps_taken)
        for piece in self._layout.pieces():
            for slot, view in piece.views.items():
                view.copy_(reader.read(slot, piece.name, offset=piece.offset, length=view.numel()))
        self._layout.publish()

    def close(self) -> None:
        self._names.clear()
        close_deepspeed(self._engine)
        del self._engine, self._layout
