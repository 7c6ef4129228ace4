"""Choose the units to keep on each axis, by importance scores."""

from __future__ import annotations

import torch
from torch import Tensor

from espalier.models.shape import ModelShape
from espalier.surgery.keep import Indices, Keep
from espalier.surgery.scores import Scores


def choose(scores: Scores, *, parent: ModelShape, child: ModelShape) -> Keep:
    """Keep the units with the highest scores; among equal ones the first.

    The same number of query heads is kept in each group that shares a KV head, as stock attention needs.

    Args:
        scores: of the parent.
        parent: its shape.
        child: the shape to reach, no larger on any axis.

    Raises:
        RefusedInput: the scores belong to a model of another shape.
    """
    scores.check(parent)
    layers = _top(scores.layers, child.layers)
    per_group = child.heads // parent.head_groups
    return Keep(
        layers=layers,
        hidden=_top(scores.hidden, child.hidden),
        ffn=tuple(_top(scores.ffn[layer], child.ffn) for layer in layers),
        heads=tuple(_top_heads(scores.heads[layer], parent.head_groups, per_group) for layer in layers),
    )


def _top_heads(scores: Tensor, num_groups: int, per_group: int) -> Indices:
    group_size = len(scores) // num_groups
    groups = scores.unflatten(0, (num_groups, group_size))
    return tuple(g * group_size + head for g in range(num_groups) for head in _top(groups[g], per_group))


def _top(scores: Tensor, count: int) -> Indices:
    assert 0 < count <= len(scores)
    order = torch.sort(scores, descending=True, stable=True).indices  # topk does not define the order of equal scores
    return tuple(sorted(order[:count].tolist()))
