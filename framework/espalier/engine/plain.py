"""zero_level none: every worker holds everything. The reference that the sharded levels are held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from espalier.checkpoint.fragments import Fragment
from espalier.config.training import OptimizerConfig
from espalier.data.batch import Batch
from espalier.distributed.world import World
from espalier.engine.adamw import MOMENTS, adamw, clip_factor, parameter_groups, set_rate, trained_parameters
from espalier.engine.closing import empty_module, free_memory
from espalier.engine.contract import Values
from espalier.engine.objective import Objective
from espalier.models.network import HeadUse, Network, evaluating
from espalier.objectives.signal import Signal

T = TypeVar("T")


class PlainEngine:
    """An engine of plain torch: float32 masters and gradients, one all-reduce a step.

    In float32 the masters are the model's own parameters. In bfloat16 each microbatch's gradient is added to a
    float32 one, and the model's weights are the masters rounded.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        *,
        optimizer: OptimizerConfig,
        rate_scales: Mapping[str, float],
        world: World,
    ) -> None:
        self._network, self._objective, self._world, self._clip = network, objective, world, optimizer.clip
        self._weights = trained_parameters(network)
        self._masters = {name: _master(weight) for name, weight in self._weights.items()}
        groups = parameter_groups(self._masters, optimizer.weight_decay, rate_scales=rate_scales)
        self._optimizer = adamw(groups, optimizer)

    def accumulate(self, batch: Batch, signal: Signal | None, *, scales: Sequence[float]) -> Tensor:
        total, sums = self._network(batch, self._objective.use(batch, signal, scales))
        if total.requires_grad:  # not where nothing that is trained took part
            total.backward()
        for name, weight in self._weights.items():
            master = self._masters[name]
            if master is not weight and weight.grad is not None:
                master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
                weight.grad = None
        return sums

    def run_layers(self, order: Sequence[int] | None) -> None:
        self._network.run_layers(order)

    @torch.no_grad()
    def evaluate(self, batch: Batch, use: HeadUse[T]) -> T:
        with evaluating(self._network):
            return self._network(batch, use)

    @torch.no_grad()
    def update(self, lr: float) -> float:
        gradients = [self._gradient(master) for master in self._masters.values()]
        if self._world.size > 1:
            waits = [dist.all_reduce(gradient, async_op=True) for gradient in gradients]
            for wait in waits:
                wait.wait()
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        torch._foreach_mul_(gradients, clip_factor(norm, self._clip))
        set_rate(self._optimizer, lr)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._refresh_weights()
        return norm

    def fragments(self) -> Iterator[Fragment]:
        for name, master in self._masters.items():
            start, length = _slice(master.numel(), self._world)
            state = self._optimizer.state.get(master, {})
            slots = {"parameter": master.detach()} | {slot: state[slot] for slot in MOMENTS if slot in state}
            for slot, values in slots.items():
                if length:
                    yield Fragment(slot, name, start, values.reshape(-1)[start : start + length])

    @torch.no_grad()
    def restore(self, reader: Values, *, steps_taken: int) -> None:
        for name, master in self._masters.items():
            master.copy_(reader.tensor("parameter", name))
            if steps_taken:
                self._optimizer.state[master] = {
                    "step": torch.tensor(float(steps_taken), device=master.device),
                    **{slot: reader.tensor(slot, name).to(master) for slot in MOMENTS},
                }
        self._refresh_weights()

    def close(self) -> None:
        empty_module(self._network)
        self._weights.clear()
        self._masters.clear()
        self._optimizer.state.clear()
        self._optimizer.param_groups.clear()
        free_memory()

    def _gradient(self, master: nn.Parameter) -> Tensor:
        if master.grad is None:
            master.grad = torch.zeros_like(master)
        return master.grad

    def _refresh_weights(self) -> None:
        for name, weight in self._weights.items():
            if weight is not self._masters[name]:
                weight.data.copy_(self._masters[name])


def _master(weight: nn.Parameter) -> nn.Parameter:
    if weight.dtype == torch.float32:
        return weight
    return nn.Parameter(torch.empty_like(weight, dtype=torch.float32))


def _slice(numel: int, world: World) -> tuple[int, int]:
    piece = -(-numel // world.size)
    start = min(numel, world.rank * piece)
    return start, min(numel, start + piece) - start
