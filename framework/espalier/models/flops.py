"""Floating-point operations of matrix products: two per multiply-add, as torch.utils.flop_counter counts them."""

from __future__ import annotations

from espalier.models.families import layout, shape_of
from espalier.models.shape import ConfigDict


def model_flops(config: ConfigDict, *, tokens: int, sequence_tokens: int) -> float:
    """One forward pass, head included.

    Args:
        tokens: all tokens that pass, padding included.
        sequence_tokens: length of the rows. Attention counts all pairs of a row; kernels that skip the masked half
            do half of that term.
    """
    shape = shape_of(config)
    attention = 2 * 2 * shape.layers * shape.heads * shape.head_dim * sequence_tokens
    head = 2 * shape.vocabulary * shape.hidden
    return float(tokens) * (2 * num_matrix_parameters(config) + attention + head)


def num_matrix_parameters(config: ConfigDict) -> int:
    """Elements of the matrices inside layers, which every token is multiplied with."""
    return sum(p.num_elements for p in layout(config).values() if p.layer is not None and len(p.shape) > 1)


def training_flops(forward: float, *, activation_checkpointing: bool = False) -> float:
    """Forward and backward of a step whose forward costs `forward`: the backward is two products for each one."""
    return forward * (4 if activation_checkpointing else 3)
