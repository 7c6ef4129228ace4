"""Floating-point operations of matrix products: two per multiply-add, as torch.utils.flop_counter counts them.

Looking up an embedding multiplies nothing. Attention counts all pairs of a row; kernels that skip the masked half do
half of that term.
"""

from __future__ import annotations

from typing import Literal

from espalier.models.architecture import is_masked_lm
from espalier.models.families import family_of, layout, num_outputs, shape_of, stock_class
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart


def model_flops(
    config: ConfigDict, *, tokens: float, sequence_tokens: float, layers: float | None = None, read_share: float = 1.0
) -> float:
    """FLOPs of one forward pass, head included. Arguments are those of `body_flops` and `head_flops`."""
    body = body_flops(config, tokens=tokens, sequence_tokens=sequence_tokens, layers=layers)
    return body + head_flops(config, tokens=tokens, read_share=read_share)


def body_flops(config: ConfigDict, *, tokens: float, sequence_tokens: float, layers: float | None = None) -> float:
    """FLOPs of the layers in one forward pass.

    Args:
        tokens: all tokens that pass, padding included.
        sequence_tokens: mean length of the rows.
        layers: that run, where that is not the number held; of drawn depths the mean or the sum over passes.
    """
    shape = shape_of(config)
    attention = 2 * 2 * (_read_width(config, "heads") / shape.layers) * sequence_tokens
    per_layer = 2 * num_matrix_parameters(config) / shape.layers + attention
    run = shape.layers if layers is None else layers
    return tokens * (run * per_layer + family_of(config).row_flops(config, shape) / sequence_tokens)


def head_flops(config: ConfigDict, *, tokens: float, read_share: float = 1.0) -> float:
    """FLOPs of what follows the layers in one forward pass: 0 for a bare body.

    Args:
        read_share: share of the tokens that the last map reads; it skips tokens without a label, and masked language
            models have few with one.
    """
    shape = shape_of(config)
    transform = stock_class(config).transform_flops(shape)
    return tokens * (transform + read_share * 2 * _outputs(config) * shape.hidden)


def read_share(config: ConfigDict, masked_share: float) -> float:
    """Share of the tokens that a language model's head reads: all, or the masked ones."""
    return masked_share if is_masked_lm(config) else 1.0


def num_matrix_parameters(config: ConfigDict) -> int:
    """Elements of the matrices inside layers, which every token is multiplied with."""
    return sum(p.num_elements for p in layout(config).values() if p.layer is not None and len(p.shape) > 1)


def trained_flops(
    config: ConfigDict,
    *,
    tokens: float,
    sequence_tokens: float,
    layers: float | None = None,
    read_share: float = 1.0,
    activation_checkpointing: bool = False,
    part: TrainedPart | None = None,
) -> float:
    """FLOPs of forward and backward; the backward has two products for each one. For other arguments see `body_flops`.

    Where a part is trained, there is one for each matrix that is trained, and one for each whose input has something
    trained before it.

    Args:
        activation_checkpointing: whether layers run forward once more, up to the last thing that their backward asks
            for: what a layer ends in without dropout or norm is not computed again.
        part: what is trained; None for all of the model.
    """
    shape = shape_of(config)
    body = body_flops(config, tokens=tokens, sequence_tokens=sequence_tokens, layers=layers)
    forward = body + head_flops(config, tokens=tokens, read_share=read_share)
    run = shape.layers if layers is None else layers
    if part is not None:
        within, outside = (tokens * flops for flops in part.added_flops())
        body += run / shape.layers * within
        forward += run / shape.layers * within + outside
    if part is None or part.is_whole_model:
        backward, share = 2 * forward, 1.0
    else:
        parts = part.backward_flops(sequence_tokens=sequence_tokens, read_share=read_share)
        backward, share = tokens * (run / shape.layers * parts[0] + parts[1]), part.layers / shape.layers
    if not activation_checkpointing:
        return forward + backward
    spared = family_of(config).ends_in_projection(config) * (1.0 if part is None else 1 - part.share_ending_in_added)
    again = body - spared * tokens * run * 2 * (_read_width(config, "ffn") / shape.layers) * shape.hidden
    return forward + backward + share * again


def _read_width(config: ConfigDict, kind: Literal["heads", "ffn"]) -> int:
    """Entries that the output projections (`heads`) or the down projections (`ffn`) read, summed over the layers."""
    return sum(
        part.size
        for parameter in layout(config).values()
        for dimension in parameter.dimensions
        for part in dimension
        if part.kind == kind and part.is_read
    )


def _outputs(config: ConfigDict) -> int:
    """Rows of the last map: words, classes, or none."""
    match stock_class(config).head_kind:
        case "none":
            return 0
        case "classifier":
            return num_outputs(config)
    return shape_of(config).vocabulary
