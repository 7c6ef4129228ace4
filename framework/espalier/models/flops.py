"""Floating-point operations of matrix products: two per multiply-add, as torch.utils.flop_counter counts them.

Looking up an embedding multiplies nothing. Attention counts all pairs of a row; kernels that skip the masked half do
half of that term.
"""

from __future__ import annotations

from collections.abc import Collection

from espalier.models.architecture import architecture, is_masked_lm
from espalier.models.families import has_post_norm, layout, shape_of
from espalier.models.shape import ConfigDict
from espalier.models.trained_part import TrainedPart, num_rows_of_last_map


def model_flops(
    config: ConfigDict, *, tokens: float, sequence_tokens: int, layers: float | None = None, read_share: float = 1.0
) -> float:
    """One forward pass, head included; arguments as those of its two parts."""
    body = body_flops(config, tokens=tokens, sequence_tokens=sequence_tokens, layers=layers)
    return body + head_flops(config, tokens=tokens, read_share=read_share)


def body_flops(config: ConfigDict, *, tokens: float, sequence_tokens: int, layers: float | None = None) -> float:
    """The layers in one forward pass.

    Args:
        tokens: all tokens that pass, padding included.
        sequence_tokens: length of the rows.
        layers: that run, where that is not the number held; of drawn depths the mean or the sum over passes.
    """
    shape = shape_of(config)
    attention = 2 * 2 * shape.heads * shape.head_dim * sequence_tokens
    per_layer = 2 * num_matrix_parameters(config) / shape.layers + attention
    run = shape.layers if layers is None else layers
    return tokens * (run * per_layer + _pooler(config) / sequence_tokens)


def head_flops(config: ConfigDict, *, tokens: float, read_share: float = 1.0) -> float:
    """What follows the layers in one forward pass: 0 for a bare body.

    Args:
        read_share: share of the tokens that the last map reads; it skips tokens without a label, and masked language
            models have few with one.
    """
    shape, name = shape_of(config), architecture(config)
    transform = 2 * shape.hidden**2 if name in ("BertForMaskedLM", "BertForSequenceClassification") else 0
    return tokens * (transform + read_share * 2 * num_rows_of_last_map(config) * shape.hidden)


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
    sequence_tokens: int,
    layers: float | None = None,
    read_share: float = 1.0,
    activation_checkpointing: bool = False,
    trained: Collection[str] | None = None,
) -> float:
    """Forward and backward of a step; the backward is two products for each one. Other arguments as of the parts.

    Where a part is trained, there is one for each matrix that is trained, and one for each whose input has something
    trained before it.

    Args:
        activation_checkpointing: whether layers run forward once more, up to the last thing that their backward asks
            for: what a layer ends in without dropout or norm is not computed again.
        trained: names of the parameters that are trained; None for all.
    """
    shape = shape_of(config)
    body = body_flops(config, tokens=tokens, sequence_tokens=sequence_tokens, layers=layers)
    forward = body + head_flops(config, tokens=tokens, read_share=read_share)
    run = shape.layers if layers is None else layers
    if trained is None:
        backward, share = 2 * forward, 1.0
    else:
        part = TrainedPart.of(config, trained)
        parts = part.backward_flops(sequence_tokens=sequence_tokens, read_share=read_share)
        backward, share = tokens * (run / shape.layers * parts[0] + parts[1]), part.layers / shape.layers
    if not activation_checkpointing:
        return forward + backward
    ends_plain = not has_post_norm(config) and not config.get("resid_pdrop", 0.1 if shape.family == "gpt2" else 0.0)
    again = body - ends_plain * tokens * run * 2 * shape.ffn * shape.hidden
    return forward + backward + share * again


def _pooler(config: ConfigDict) -> float:
    """Stock BERT applies its pooler to the first token of every row, whoever reads it."""
    return 2 * shape_of(config).hidden ** 2 if any(".pooler." in f".{name}" for name in layout(config)) else 0
