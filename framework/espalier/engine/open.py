"""From settings and a committed state to an engine that steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from espalier.checkpoint.read import StateReader
from espalier.config.training import OptimizerConfig, ZeroLevel
from espalier.distributed.world import World
from espalier.engine.adamw import rate_scales
from espalier.engine.contract import Engine
from espalier.engine.deepspeed_settings import deepspeed_config, prepare_deepspeed, sharded_construction
from espalier.engine.objective import Objective
from espalier.engine.plain import PlainEngine
from espalier.engine.projections import WithProjections
from espalier.engine.zero import ZeroEngine
from espalier.models.build import build_network
from espalier.models.families import num_parameters
from espalier.models.hidden_states import parameter_name


@dataclass(frozen=True)
class EngineSpec:
    """What an engine is built for.

    Attributes:
        num_microbatches: microbatches of one worker in one step.
        projections: name -> widths of the linear maps that the objective wants trained along.
    """

    zero_level: ZeroLevel
    dtype: torch.dtype
    optimizer: OptimizerConfig
    num_microbatches: int
    activation_checkpointing: bool = False
    projections: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def open_engine(
    spec: EngineSpec, objective: Objective, reader: StateReader, *, steps_taken: int, world: World
) -> Engine:
    """Build a student and fill it from a committed state. Collective.

    The weights go from the files straight into this worker's part of the float32 masters: every level starts from
    the same bits, and at level parameters no worker ever holds the model.
    """
    model = reader.manifest.origin.model
    config = deepspeed_config(
        spec.zero_level,
        dtype=spec.dtype,
        device=world.device,
        num_parameters=num_parameters(model) + sum(rows * columns for rows, columns in spec.projections.values()),
        num_microbatches=spec.num_microbatches,
        clip=spec.optimizer.clip,
        offload=spec.optimizer.offload,
    )
    if spec.zero_level != "none":
        prepare_deepspeed()
    sharding = sharded_construction(config) if spec.zero_level == "parameters" else None
    network = build_network(
        model, dtype=spec.dtype, device=world.device, sharding=sharding, projections=spec.projections
    )
    network.train()
    if spec.activation_checkpointing:
        network.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    scales = rate_scales(model, spec.optimizer.layer_decay)
    scales |= {parameter_name(name): 1.0 for name in spec.projections}
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
            config=config,
            world=world,
        )
    values = WithProjections(reader, spec.projections, goes_on=steps_taken > 0)
    engine.restore(values, steps_taken=steps_taken)
    return engine
