"""Floating-point operations of matrix products: two per multiply-add, as torch.utils.flop_counter counts them.

Looking up an embedding multiplies nothing. Attention counts all pairs of a row; kernels that skip the masked half do
half of that term.
"""

from __future__ import annotations

from espalier.models.architecture import architecture, is_masked_lm
from espalier.models.families import has_post_norm, layout, shape_of
from espalier.models.shape import ConfigDict


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
    sequence_tokens: int,
    layers: float | None = None,
    read_share: float = 1.0,
    activation_checkpointing: bool = False,
) -> float:
    """Forward and backward of a step; the backward is two products for each one. Other arguments as of the parts.

    Args:
        activation_checkpointing: whether layers run forward once more, up to the last thing that their backward asks
            for: what a layer ends in without dropout or norm is not computed again.
    """
    body = body_flops(config, tokens=tokens, sequence_tokens=sequence_tokens, layers=layers)
    total = 3 * (body + head_flops(config, tokens=tokens, read_share=read_share))
    if not activation_checkpointing:
        return total
    shape = shape_of(config)
    run = shape.layers if layers is None else layers
    ends_plain = not has_post_norm(config) and not config.get("resid_pdrop", 0.1 if shape.family == "gpt2" else 0.0)
    return total + body - ends_plain * tokens * run * 2 * shape.ffn * shape.hidden


def _pooler(config: ConfigDict) -> float:
    """Stock BERT applies its pooler to the first token of every row, whoever reads it."""
    return 2 * shape_of(config).hidden ** 2 if any(".pooler." in f".{name}" for name in layout(config)) else 0


def _outputs(config: ConfigDict) -> int:
    """Rows of the last map: words, classes, or none."""
    name = architecture(config)
    if name == "BertModel":
        return 0
    if not name.endswith("ForSequenceClassification"):
        return shape_of(config).vocabulary
    head = next(p for key, p in layout(config).items() if key in ("score.weight", "classifier.weight"))
    return head.shape[0]
