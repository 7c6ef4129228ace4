"""From settings and a committed state to an engine that steps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from espalier.checkpoint.read import StateReader
from espalier.config.training import OptimizerConfig, ZeroLevel
from espalier.distributed.world import World
from espalier.engine.adamw import added_rate_scales, rate_scales
from espalier.engine.added_values import WithAdditions
from espalier.engine.contract import Engine
from espalier.engine.deepspeed_settings import deepspeed_config, prepare_deepspeed, sharded_construction
from espalier.engine.fill import fill
from espalier.engine.objective import Objective
from espalier.engine.plain import PlainEngine
from espalier.engine.zero import ZeroEngine
from espalier.models.addition import Addition, added_parameters
from espalier.models.build import build_network
from espalier.models.families import layout
from espalier.models.network import Network


@dataclass(frozen=True)
class EngineSpec:
    """The settings that an engine is built with.

    Attributes:
        num_microbatches: microbatches of one worker in one step.
        additions: what is trained along and is no part of the model.
        trained: names of the model's parameters that are trained; None for all. The others have no master, moment or
            gradient: each is its committed value, in `dtype`.
        seed: of the first values of additions.
    """

    zero_level: ZeroLevel
    dtype: torch.dtype
    optimizer: OptimizerConfig
    num_microbatches: int
    activation_checkpointing: bool = False
    additions: tuple[Addition, ...] = ()
    trained: frozenset[str] | None = None
    seed: int = 0


def open_engine(
    spec: EngineSpec, objective: Objective, reader: StateReader, *, steps_taken: int, world: World
) -> Engine:
    """Build a student and fill it from a committed state. Collective.

    The weights go from the files straight into this worker's part of the float32 masters: every level starts from
    the same bits, and at level parameters no worker ever holds the model.
    """
    model = reader.manifest.origin.model
    parameters = layout(model)
    trained = parameters.keys() if spec.trained is None else spec.trained
    added = added_parameters(spec.additions)
    config = deepspeed_config(
        spec.zero_level,
        dtype=spec.dtype,
        device=world.device,
        num_parameters=sum(parameters[name].num_elements for name in trained)
        + sum(one.num_elements for one in added.values()),
        num_microbatches=spec.num_microbatches,
        clip=spec.optimizer.clip,
        offload=spec.optimizer.offload,
    )
    if spec.zero_level != "none":
        prepare_deepspeed()
    sharding = sharded_construction(config) if spec.zero_level == "parameters" else None
    network = build_network(model, dtype=spec.dtype, device=world.device, sharding=sharding, additions=spec.additions)
    network.train()
    _freeze(network, reader, trained, rank=world.rank)
    if spec.activation_checkpointing:
        network.checkpoint_activations()
    scales = rate_scales(model, spec.optimizer.layer_decay)
    scales |= added_rate_scales(added, model, spec.optimizer.layer_decay)
    engine: Engine
    if spec.zero_level == "none":
        engine = PlainEngine(network, objective, optimizer=spec.optimizer, rate_scales=scales, world=world)
    else:
        engine = ZeroEngine(
            network,
            objective,
            level=spec.zero_level,
            optimizer=spec.optimizer,
            rate_scales=scales,
            may_be_unused=[name for name, one in added.items() if one.may_be_unused],
            config=config,
            world=world,
        )
    values = WithAdditions(reader, spec.additions, spec.seed, goes_on=steps_taken > 0)
    engine.restore(values, steps_taken=steps_taken)
    return engine


def _freeze(network: Network, reader: StateReader, trained: Collection[str], *, rank: int) -> None:
    """Give what is not trained its values, for good. Backward then stops where nothing below it is trained."""
    frozen = {name: weight for name, weight in network.model_weights.items() if name not in trained}
    for weight in frozen.values():
        weight.requires_grad_(False)
    fill(frozen, reader, rank=rank)
