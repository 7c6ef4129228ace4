"""A model without an optimizer: a teacher, or one that is measured. Whole on every worker, or sharded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from espalier.checkpoint.read import StateReader
from espalier.data.batch import Batch
from espalier.distributed.world import World
from espalier.engine.closing import close_deepspeed, empty_module, free_memory
from espalier.engine.deepspeed_settings import (
    deepspeed_config,
    fetch_by_layer,
    prepare_deepspeed,
    sharded_construction,
)
from espalier.engine.fill import fill
from espalier.models.build import build_network
from espalier.models.families import num_parameters
from espalier.models.hidden_states import StatesUse
from espalier.models.network import HeadUse, Network
from espalier.objectives.signal import Signal

T = TypeVar("T")


class FrozenModel:
    """Every call is a forward without gradients; under `parameters` all workers must make equally many.

    Attributes:
        network: its weights are sharded at level parameters.
    """

    def __init__(
        self,
        reader: StateReader,
        *,
        zero_level: Literal["none", "parameters"],
        dtype: torch.dtype,
        world: World,
        layers: tuple[int, ...] = (),
    ) -> None:
        model = reader.manifest.origin.model
        self._sharded, self._layers = zero_level == "parameters", layers
        config = deepspeed_config("parameters", dtype=dtype, device=world.device, num_parameters=num_parameters(model))
        if self._sharded:
            prepare_deepspeed()
        sharding = sharded_construction(config) if self._sharded else None
        network = build_network(model, dtype=dtype, device=world.device, sharding=sharding)
        network.requires_grad_(False).eval()
        fill(dict(network.model.named_parameters()), reader, rank=world.rank)
        self.network: Network = network
        self._engine: Any = _shard(network, config) if self._sharded else None

    @torch.no_grad()
    def run(self, batch: Batch, use: HeadUse[T] | StatesUse[T] | None = None) -> Any:
        """The forward of `Network`: hidden states [B, T, D], or what `use` makes of them and of the head."""
        return (self._engine or self.network)(batch, use)

    @contextmanager
    def signal(self, batch: Batch) -> Iterator[Signal]:
        """What this model says of a microbatch; the head's weight is whole on this worker inside the context.

        With the hidden states of the `layers` it was opened with, counted from 1.
        """
        hidden, *states = self.run(batch, self._states) if self._layers else (self.run(batch),)
        head = self.network.head
        with self._gathered([p for p in (head.weight, head.bias) if p is not None]):
            bias = None if head.bias is None else head.bias.detach()
            yield Signal(hidden, head.weight.detach(), bias, dict(zip(self._layers, states, strict=True)))

    @property
    def _states(self) -> StatesUse[tuple[Tensor, ...]]:
        """The input of the head, and the hidden states of the layers that are asked for."""
        nothing = (None,) * len(self._layers)
        return StatesUse(self._layers, nothing, lambda hidden, weight, bias, states: (hidden, *states))

    def close(self) -> None:
        """Free every byte. The model is of no use afterwards."""
        if self._engine is not None:
            close_deepspeed(self._engine)
        else:
            empty_module(self.network)
            free_memory()
        self._engine = None

    @contextmanager
    def _gathered(self, parameters: list[nn.Parameter]) -> Iterator[None]:
        if not self._sharded:
            yield
            return
        import deepspeed

        with deepspeed.zero.GatheredParameters(parameters):
            yield


def _shard(network: Network, config: dict[str, Any]) -> Any:
    import deepspeed

    fetch_by_layer(network.layers)
    engine, *_ = deepspeed.initialize(model=network, config=config, dist_init_required=False)
    return engine
