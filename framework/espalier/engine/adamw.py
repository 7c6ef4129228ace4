"""AdamW as every engine builds it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from espalier.checkpoint.fragments import Slot
from espalier.config.training import OptimizerConfig

MOMENTS: tuple[Slot, ...] = ("exp_avg", "exp_avg_sq")


def parameter_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Matrices are decayed; vectors (norms, biases) are not."""
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = [p for p in trainable if _num_dimensions(p) > 1]
    vectors = [p for p in trainable if _num_dimensions(p) <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def adamw(groups: list[dict[str, object]], config: OptimizerConfig) -> torch.optim.AdamW:
    """torch's fused AdamW; the learning rate is set before every update."""
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def clip_factor(norm: float, clip: float) -> float:
    """What gradients are multiplied by; DeepSpeed's formula (0.19.8), so that all engines agree."""
    return 1.0 / max(1.0, (norm + 1e-6) / clip)


def _num_dimensions(parameter: nn.Parameter) -> int:
    return len(getattr(parameter, "ds_shape", parameter.shape))  # sharded by zero.Init: the tensor itself is empty
