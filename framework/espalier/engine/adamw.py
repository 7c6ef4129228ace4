"""AdamW as every engine builds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from espalier.checkpoint.fragments import Slot
from espalier.config.training import OptimizerConfig
from espalier.models.addition import AddedParameter
from espalier.models.families import layout, shape_of
from espalier.models.network import Network
from espalier.models.shape import ConfigDict

MOMENTS: tuple[Slot, ...] = ("exp_avg", "exp_avg_sq")


def trained_parameters(network: Network) -> dict[str, nn.Parameter]:
    """The parameters of a network that are not frozen, by their names on disk."""
    return {name: weight for name, weight in network.weights.items() if weight.requires_grad}


def parameter_groups(
    parameters: Mapping[str, nn.Parameter], weight_decay: float, *, rate_scales: Mapping[str, float]
) -> list[dict[str, object]]:
    """Matrices are decayed; vectors (norms, biases) are not. `rate_scale` of a group multiplies the rate."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        decay = weight_decay if _num_dimensions(parameter) > 1 else 0.0
        groups.setdefault((decay, rate_scales[name]), []).append(parameter)
    return [{"params": held, "weight_decay": decay, "rate_scale": scale} for (decay, scale), held in groups.items()]


def rate_scales(model: ConfigDict, layer_decay: float) -> dict[str, float]:
    """What each parameter's rate is multiplied by: 1 after the layers, `layer_decay` in the last layer, its square in
    the one below, and so on down to what stands before the first (Howard and Ruder 2018, arXiv 1801.06146, 3.2)."""
    parameters, layers = layout(model), shape_of(model).layers
    depths, depth = {}, 0
    for name, parameter in parameters.items():
        if parameter.layer is not None:
            depth = parameter.layer + 1
        elif depth > 0:
            depth = layers + 1
        depths[name] = depth
    return {name: layer_decay ** (layers + 1 - depth) for name, depth in depths.items()}


def added_rate_scales(added: Mapping[str, AddedParameter], model: ConfigDict, layer_decay: float) -> dict[str, float]:
    """As `rate_scales`, of what is added to a model: as in the layer that it belongs to, times its own scale."""
    layers = shape_of(model).layers
    return {name: one.rate_scale * layer_decay ** (layers - one.place[0]) for name, one in added.items()}


def set_rate(optimizer: Any, lr: float) -> None:
    """Set the learning rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate_scale"]


def adamw(groups: list[dict[str, object]], config: OptimizerConfig) -> torch.optim.AdamW:
    """torch's fused AdamW; the learning rate is set before every update."""
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def clip_factor(norm: float, clip: float) -> float:
    """What gradients are multiplied by; DeepSpeed's formula (0.19.8), so that all engines agree."""
    return 1.0 / max(1.0, (norm + 1e-6) / clip)


def _num_dimensions(parameter: nn.Parameter) -> int:
    return len(getattr(parameter, "ds_shape", parameter.shape))  # sharded by zero.Init: the tensor itself is empty
