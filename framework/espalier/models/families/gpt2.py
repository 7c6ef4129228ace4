"""GPT-2: LayerNorm before each half, fused q-k-v, transposed weights (`Conv1D`), a learned position table."""

from __future__ import annotations

from espalier.config.faults import Fault
from espalier.models.families.pieces import (
    Table,
    conv1d,
    decoder_head,
    embedding,
    hidden_axis,
    key_value_axis,
    last_norm,
    norm,
    query_axis,
    reads_embedding,
    vocabulary_axis,
)
from espalier.models.shape import Axis, ConfigDict, ModelShape, Probe

SIZES = {"layers": "n_layer", "hidden": "n_embd", "ffn": "n_inner", "heads": "n_head"}
ARCHITECTURES = ("GPT2LMHeadModel", "GPT2ForSequenceClassification")
TIED_BY_DEFAULT = True
CAUSAL = True
POST_NORM = False
FORBIDDEN = ("add_cross_attention",)


def kv_heads(config: ConfigDict) -> object:
    return config["n_head"]


def head_dim(config: ConfigDict) -> None:
    """Always hidden / heads."""
    return None


def positions(config: ConfigDict) -> object:
    return config.get("n_positions", 1024)


def outside(config: ConfigDict, shape: ModelShape) -> tuple[Table, Table]:
    """Parameters before and after the layers."""
    hidden, vocabulary = hidden_axis(shape), vocabulary_axis(shape)
    tables = embedding("transformer.wte", vocabulary, hidden) | embedding(
        "transformer.wpe", Axis("positions", shape.positions), hidden
    )
    into_embedding = reads_embedding(config, shape, ARCHITECTURES[0])
    last = last_norm("transformer.ln_f", shape, bias=True, into_embedding=into_embedding)
    return tables, last | decoder_head(config, shape, ARCHITECTURES[0])


def layer(config: ConfigDict, shape: ModelShape) -> Table:
    """Parameters of one layer, named from the layer on."""
    hidden, ffn = hidden_axis(shape), Axis("ffn", shape.ffn)
    query, key_value = query_axis(shape), key_value_axis(shape)
    return (
        norm("ln_1", hidden, bias=True)
        | conv1d("attn.c_attn", into=hidden, out=(query, key_value, key_value))
        | conv1d("attn.c_proj", into=query, out=(hidden,))
        | norm("ln_2", hidden, bias=True)
        | conv1d("mlp.c_fc", into=hidden, out=(ffn,))
        | conv1d("mlp.c_proj", into=ffn, out=(hidden,))
    )


def body(config: ConfigDict) -> str:
    return "transformer"


def layer_path(config: ConfigDict, index: int) -> str:
    return f"transformer.h.{index}"


def probe(config: ConfigDict, index: int) -> Probe:
    at = layer_path(config, index)
    norms = (f"{at}.ln_1", f"{at}.ln_2")
    return Probe(layer=at, down=f"{at}.mlp.c_proj", output=f"{at}.attn.c_proj", norms=norms)


def misfit(config: ConfigDict, shape: ModelShape) -> Fault | None:
    """Why stock transformers would not load this shape, or would compute something else; or None."""
    if shape.hidden != shape.heads * shape.head_dim:
        wanted = f"heads x {shape.head_dim}, as stock GPT-2 has it: change hidden and heads together"
        return Fault("hidden", shape.hidden, wanted)
    if config.get("scale_attn_by_inverse_layer_idx") and shape.layers != config["n_layer"]:
        wanted = "all layers, since `scale_attn_by_inverse_layer_idx` scales each by its number"
        return Fault("layers", shape.layers, wanted)
    return None


def resize(config: ConfigDict, shape: ModelShape) -> ConfigDict:
    """Nothing follows beyond the four sizes."""
    return {}
